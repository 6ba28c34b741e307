"""A generator that asks through grpc.aio, as a Python client of the gateway would: slower, and nothing of it is ours.

In: one generator's part of an open loop. Out: what became of it. Called by open_loop.py; the wire's figures are checked
against it.
"""

import asyncio
import time

import grpc
import uvloop

from server.load.calls import CODES, LATE_ANSWERS_S, OK, Begin, Part, Work
from server.load.target import DECIDE, decide_message

CONNECTS_WITHIN_S = 30.0


def generated(work: Work, begin: Begin) -> Part:
    """Ask on a pool of channels, each call in a task of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_generate(work, begin))


async def _generate(work: Work, begin: Begin) -> Part:
    load, clock, part = work.load, time.monotonic, Part.empty(work.intended_s)
    sent_s, ended_s, status = part.timeline.sent_s, part.timeline.ended_s, part.status
    messages = [decide_message(shopper_id, work.at_s) for shopper_id in work.shopper_ids]
    channels = [work.target.aio_channel() for _ in range(load.n_channels)]
    methods = [channel.unary_unary(DECIDE) for channel in channels]
    for channel in channels:
        await asyncio.wait_for(channel.channel_ready(), CONNECTS_WITHIN_S)
    begins_s = begin()

    async def ask(place: int) -> None:
        sent_s[place] = clock() - begins_s
        method = methods[place % len(methods)]
        try:
            answer = await method(messages[place], timeout=load.deadline_s, metadata=work.target.metadata)
        except grpc.aio.AioRpcError as error:
            ended_s[place], status[place] = clock() - begins_s, CODES[error.code()]
        else:
            ended_s[place], status[place] = clock() - begins_s, OK
            part.answered(place, answer)

    open_calls: set[asyncio.Task[None]] = set()
    for place, intended_s in enumerate(work.intended_s.tolist()):
        while (left_s := begins_s + intended_s - clock()) > 0:
            await asyncio.sleep(left_s)
        task = asyncio.create_task(ask(place))
        open_calls.add(task)
        task.add_done_callback(open_calls.discard)
    if open_calls:
        await asyncio.wait(open_calls, timeout=load.deadline_s + LATE_ANSWERS_S)
    for channel in channels:
        await channel.close()
    return part
