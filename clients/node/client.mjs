// A client of StrategyService for Node: unary, stream and columns, straight from the .proto files.
//
// In: an address and shopper ids. Out: the messages of stratagem.v1 as plain objects, named as in the protos. 64-bit
// numbers are decimal strings, because a JavaScript number is exact only to 2^53; enums are their names.
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PROTOS = fileURLToPath(new URL("../../protos", import.meta.url));
const MESSAGE_BYTES = 256 * 1024 * 1024;
const LONGEST_WITHIN_MS = 60_000;
// gRPC's own retries: exponential, jittered, throttled so that they cannot double the load, and they wait as long as the
// gateway asks for. Safe, because every request here carries an id that its caller made.
const SERVICE_CONFIG = {
  methodConfig: [
    {
      name: [{ service: "stratagem.v1.StrategyService" }],
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "0.05s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
      },
    },
  ],
  retryThrottling: { maxTokens: 20, tokenRatio: 0.1 },
};

/**
 * @typedef {object} DecideRequest
 * @property {string} shopper_id 1 to 200 bytes
 * @property {string} [decision_id] so that asking again gets the same decision; a new one where unset
 * @property {number | string} [time_s] the moment to decide for, seconds since 1970 UTC; the gateway's clock where unset
 * @property {number} [max_candidates] how many candidates to return
 * @property {boolean} [without_reasons] leaves the reasons out
 *
 * @typedef {object} Decision what to do; every field is explained in strategy.proto
 * @property {string} decision_id
 * @property {string} shopper_id
 * @property {{kind: string, channel: string, offer_id: string, item_ids: string[], category: string, title: string}} action
 * @property {string} value_micros
 * @property {string} cost_micros
 * @property {string} score_micros
 * @property {number} propensity
 * @property {string} rung
 *
 * @typedef {object} Options
 * @property {string} [token] bearer token; needs `credentials` unless the gateway is on this machine
 * @property {grpc.ChannelCredentials} [credentials] TLS; in the clear where unset
 * @property {number} [withinMs] time for one call or ask, retries included
 */

/** Calls to one gateway. */
export class Client {
  /**
   * @param {string} address host:port
   * @param {Options} [options]
   */
  constructor(address, { token, credentials, withinMs = 1000 } = {}) {
    if (token && !credentials && !isOnThisMachine(address)) {
      throw new RangeError(`a token must not be sent in the clear beyond this machine: set credentials (${address})`);
    }
    const file = "stratagem/v1/strategy.proto";
    const loaded = loadSync(file, {
      includeDirs: [PROTOS], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true,
    });
    const { StrategyService } = grpc.loadPackageDefinition(loaded).stratagem.v1;
    this.withinMs = withinMs;
    this.metadata = new grpc.Metadata();
    if (token) this.metadata.set("authorization", `Bearer ${token}`);
    this.stub = new StrategyService(address, credentials ?? grpc.credentials.createInsecure(), {
      "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
      "grpc.max_receive_message_length": MESSAGE_BYTES,
      "grpc.max_send_message_length": MESSAGE_BYTES,
    });
  }

  /**
   * One decision.
   * @param {DecideRequest} request
   * @returns {Promise<Decision>}
   */
  async decide(request) {
    return (await this.#call("Decide", withDecisionId(request), this.withinMs)).decision;
  }

  /**
   * Many decisions, in messages of bounded size, one after the other.
   * @param {string[]} shopperIds
   * @param {{time_s?: number | string, batch_id?: string, rowsPerMessage?: number, withinMs?: number}} [options]
   *   withinMs: time for one message
   * @yields {object} one DecideBatchResponse after the other, rows in the order of `shopperIds`
   */
  async *decideMany(shopperIds, { time_s, batch_id = randomUUID(), rowsPerMessage = 10_000, withinMs = 60_000 } = {}) {
    for (let first = 0; first < shopperIds.length; first += rowsPerMessage) {
      const keys = packed(shopperIds.slice(first, first + rowsPerMessage));
      yield await this.#call("DecideBatch", { ...keys, time_s, batch_id: `${batch_id}.${first / rowsPerMessage}` }, withinMs);
    }
  }

  /**
   * Opens a stream of asks.
   * @param {{mostOpen?: number}} [options] asks without an answer at one time
   */
  stream({ mostOpen = 256 } = {}) {
    return new DecideStream(this.stub.DecideStream(this.metadata), mostOpen, this.withinMs);
  }

  /** Ends the connection. */
  close() {
    this.stub.close();
  }

  #call(method, request, withinMs) {
    const deadline = new Date(Date.now() + withinMs);
    return new Promise((resolve, reject) => {
      this.stub[method](request, this.metadata, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }
}

/** Asks on one stream; each answer finds its ask by call_id. */
export class DecideStream {
  #calls = new Map();
  #waiting = [];
  #lastId = 0;
  #ended = null;

  constructor(call, mostOpen, withinMs) {
    this.call = call;
    this.mostOpen = mostOpen;
    this.withinMs = withinMs;
    call.on("data", (answer) => this.#take(answer));
    call.on("error", (error) => this.#fail(error));
    call.on("end", () => this.#fail(new Error("the gateway ended the stream")));
  }

  /**
   * Asks, and resolves with the decision; run several at once to use the stream.
   * @param {DecideRequest} request
   * @returns {Promise<Decision>}
   */
  async submit(request) {
    while (!this.#ended && this.#calls.size >= this.mostOpen) await new Promise((go) => this.#waiting.push(go));
    if (this.#ended) throw this.#ended;
    const call_id = String(++this.#lastId);
    return new Promise((resolve, reject) => {
      const late = setTimeout(
        () => this.#settle(call_id)?.reject(new Error(`no answer must take longer than ${this.withinMs} ms`)),
        this.withinMs,
      );
      this.#calls.set(call_id, { resolve, reject, late });
      const within_ms = Math.min(this.withinMs, LONGEST_WITHIN_MS);
      this.call.write({ call_id, within_ms, request: withDecisionId(request) });
    });
  }

  /** Says that no more asks come; resolves when the gateway has ended the stream too. */
  async close() {
    const isOver = new Promise((resolve) => this.call.on("status", resolve));
    this.call.end();
    await isOver;
  }

  #take({ call_id, answer, decision, problem }) {
    const ask = this.#settle(call_id);
    if (answer === "decision") ask?.resolve(decision);
    else ask?.reject(Object.assign(new Error(problem.words), { code: problem.code, retryAfterMs: problem.retry_after_ms }));
  }

  #settle(call_id) {
    const ask = this.#calls.get(call_id);
    if (ask) clearTimeout(ask.late);
    this.#calls.delete(call_id);
    this.#waiting.shift()?.();
    return ask;
  }

  #fail(error) {
    this.#ended ??= error;
    for (const call_id of [...this.#calls.keys()]) this.#settle(call_id)?.reject(error);
    for (const go of this.#waiting.splice(0)) go();
  }
}

/**
 * Ids one behind the other, and where each ends.
 * @param {string[]} shopperIds
 * @returns {{shopper_keys: Buffer, shopper_key_ends: number[]}}
 */
export function packed(shopperIds) {
  let end = 0;
  const shopper_key_ends = shopperIds.map((id) => (end += Buffer.byteLength(id)));
  return { shopper_keys: Buffer.from(shopperIds.join("")), shopper_key_ends };
}

/**
 * The rows of one DecideBatchResponse.
 * @param {string[]} shopperIds those of the message
 * @param {object} answer
 */
export function* rowsOf(shopperIds, answer) {
  for (const [row, shopper_id] of shopperIds.entries()) {
    const shown = answer.item_index.slice(answer.item_offsets[row], answer.item_offsets[row + 1]);
    yield {
      shopper_id,
      decision_id: `${answer.batch_id}/${row}`,
      status: answer.statuses[row],
      action: { ...answer.actions[answer.action_index[row]], item_ids: shown.map((item) => answer.item_ids[item]) },
      value_micros: answer.value_micros[row],
      cost_micros: answer.cost_micros[row],
      score_micros: answer.score_micros[row],
      propensity: answer.propensity[row],
      rung: answer.rungs[row],
    };
  }
}

function withDecisionId(request) {
  return { ...request, decision_id: request.decision_id || randomUUID() };
}

function isOnThisMachine(address) {
  return /^(unix:|localhost(:\d+)?$|127\.\d+\.\d+\.\d+(:\d+)?$|\[::1\](:\d+)?$)/.test(address);
}
