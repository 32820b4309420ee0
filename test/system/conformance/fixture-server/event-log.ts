import type { EventStore, JSONRPCMessage } from "@modelcontextprotocol/server";

/** Stores the events of one session's streams, so that a client can resume with `Last-Event-ID`. */
export function eventLog(): EventStore {
  const events: { streamId: string; message: JSONRPCMessage }[] = [];
  return {
    async storeEvent(streamId, message) {
      events.push({ streamId, message });
      return String(events.length);
    },
    async getStreamIdForEventId(eventId) {
      return events[Number(eventId) - 1]?.streamId;
    },
    async replayEventsAfter(lastEventId, { send }) {
      const streamId = events[Number(lastEventId) - 1]?.streamId;
      if (streamId === undefined) throw new Error(`no event ${lastEventId}`);
      for (const [index, event] of events.entries()) {
        // The event that opens a stream has an id and no message.
        if (index < Number(lastEventId) || event.streamId !== streamId || !("jsonrpc" in event.message))
          continue;
        await send(String(index + 1), event.message);
      }
      return streamId;
    },
  };
}
