#!/usr/bin/env node
// Decides for people and scripts: `node decide.mjs unary --address 127.0.0.1:8470 1 17 42` prints one JSON line a shopper.
import { parseArgs } from "node:util";

import { Client, rowsOf } from "./client.mjs";

const HELP = `usage: node decide.mjs unary|stream|batch [--address HOST:PORT] [--time-s SECONDS] [--within-ms MS]
                       [--rows N] SHOPPER ...

Asks the gateway for one decision per shopper and prints one JSON line each: "unary" with one call a shopper,
"stream" with all asks on one stream, in the order of the answers, "batch" in columns, N rows a message.
STRATAGEM_TOKEN in the environment is sent as bearer token.`;

async function* decisions(way, client, shopperIds, { time_s, rowsPerMessage, withinMs }) {
  if (way === "unary") {
    for (const shopper_id of shopperIds) yield await client.decide({ shopper_id, time_s });
  } else if (way === "stream") {
    const stream = client.stream();
    const asks = new Map(
      shopperIds.map((shopper_id, place) => [
        place,
        stream.submit({ shopper_id, time_s }).then((decision) => ({ place, decision })),
      ]),
    );
    while (asks.size) {
      const { place, decision } = await Promise.race(asks.values());
      asks.delete(place);
      yield decision;
    }
    await stream.close();
  } else {
    let first = 0;
    for await (const answer of client.decideMany(shopperIds, { time_s, rowsPerMessage, withinMs })) {
      yield* rowsOf(shopperIds.slice(first, (first += answer.statuses.length)), answer);
    }
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    help: { type: "boolean", short: "h" },
    address: { type: "string", default: "127.0.0.1:8470" },
    "time-s": { type: "string" },
    "within-ms": { type: "string", default: "1000" },
    rows: { type: "string", default: "10000" },
  },
});
const [way, ...shopperIds] = positionals;
if (values.help || !["unary", "stream", "batch"].includes(way) || !shopperIds.length) {
  console.log(HELP);
  process.exit(values.help ? 0 : 2);
}
const withinMs = Number(values["within-ms"]);
const client = new Client(values.address, { token: process.env.STRATAGEM_TOKEN, withinMs });
try {
  const how = { time_s: values["time-s"], rowsPerMessage: Number(values.rows), withinMs };
  for await (const decision of decisions(way, client, shopperIds, how)) console.log(JSON.stringify(decision));
} catch (error) {
  console.error(`refused: ${error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
