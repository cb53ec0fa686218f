/** The client of `/ws` against a gateway that is played. */
import { describe, expect, it, vi } from "vitest";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8080/ui/" });
const { Live } = await import("./live");
type Socket = import("./live").Socket;
type Message = import("./live").Message;

class Played implements Socket {
  readyState = 0;
  onopen: (() => void) | null = null;
  onclose: ((event?: { reason: string }) => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  said: Record<string, unknown>[] = [];
  closed = false;

  send(text: string): void {
    this.said.push(JSON.parse(text) as Record<string, unknown>);
  }

  close(): void {
    this.closed = true;
  }

  tell(message: Record<string, unknown>): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

function played(): { live: InstanceType<typeof Live>; sockets: Played[] } {
  const sockets: Played[] = [];
  const live = new Live(() => {
    const socket = new Played();
    sockets.push(socket);
    return socket;
  });
  return { live, sockets };
}

describe("the client of /ws", () => {
  it("connects when somebody listens, and not before; the last one to leave closes", () => {
    const { live, sockets } = played();
    expect(sockets).toHaveLength(0);
    const first = live.subscribe({ channel: "server:a.b", history: 5 }, () => {});
    const second = live.subscribe({ channel: "build:a.b" }, () => {});
    expect(sockets).toHaveLength(1);
    sockets[0]!.readyState = 1;
    sockets[0]!.onopen!();
    expect(sockets[0]!.said.map((m) => m["channel"])).toEqual(["server:a.b", "build:a.b"]);
    first();
    expect(sockets[0]!.said.at(-1)).toEqual({ type: "unsubscribe", id: "s1" });
    expect(sockets[0]!.closed).toBe(false);
    second();
    expect(sockets[0]!.closed).toBe(true);
    expect(live.state).toBe("idle");
  });
  it("closes for good: nobody hears of anything, and it does not come back by itself", () => {
    vi.useFakeTimers();
    const { live, sockets } = played();
    const heard: Message[] = [];
    const end = live.subscribe({ channel: "server:a.b" }, (message) => heard.push(message));
    sockets[0]!.readyState = 1;
    sockets[0]!.onopen!();
    live.close();
    expect([live.state, sockets[0]!.closed]).toEqual(["idle", true]);
    sockets[0]!.tell({ type: "subscribed", id: "s1", channel: "server:a.b", pods: 1 });
    sockets[0]!.onclose!();
    end();
    vi.advanceTimersByTime(60_000);
    expect([heard, sockets.length]).toEqual([[], 1]);
    vi.useRealTimers();
  });
  it("closes a connection that nobody waits for any more when it is there", () => {
    const { live, sockets } = played();
    live.subscribe({ channel: "server:a.b" }, () => {})();
    expect([live.state, sockets[0]!.closed]).toEqual(["idle", false]);
    sockets[0]!.onopen!();
    expect(sockets[0]!.closed).toBe(true);
  });

  it("gives messages to the subscription that they are for", () => {
    const { live, sockets } = played();
    const heard: Message[] = [];
    live.subscribe({ channel: "server:a.b" }, (m) => heard.push(m));
    live.subscribe({ channel: "server:a.c" }, () => expect.unreachable());
    sockets[0]!.onopen!();
    sockets[0]!.tell({ type: "server:log", id: "s1", writer: "w", first: 1, last: 2, left: 0, items: [] });
    sockets[0]!.tell({ type: "hello", version: 1 });
    expect(heard).toHaveLength(1);
  });

  it("goes on after a disconnect, where it was to the record", () => {
    vi.useFakeTimers();
    const { live, sockets } = played();
    live.subscribe({ channel: "server:a.b", history: 100 }, () => {});
    const states: string[] = [];
    live.watch((state) => states.push(state));
    const [first] = sockets;
    first!.onopen!();
    first!.tell({ type: "server:log", id: "s1", writer: "old", first: 1, last: 90, left: 0, history: true, items: [] });
    first!.tell({ type: "live", id: "s1", resume: { at: 1000, seen: { w: 7, old: 90 } } });
    first!.tell({ type: "server:log", id: "s1", writer: "w", first: 8, last: 12, left: 1, items: [] });
    first!.tell({ type: "dropped", id: "s1", writer: "w", first: 13, last: 20, count: 8, reason: "slow-client" });
    first!.tell({ type: "passed", id: "s1", writer: "v", last: 3, left: 3 });
    first!.tell({ type: "heartbeat", time: "", resume: { s1: { at: 5000, seen: {} } } });
    first!.onclose!({ reason: "a message is larger than 262,144 bytes" });
    expect(live.why).toBe("a message is larger than 262,144 bytes");
    vi.advanceTimersByTime(1_000);
    expect(sockets).toHaveLength(2);
    sockets[1]!.onopen!();
    expect(sockets[1]!.said).toEqual([
      { type: "subscribe", id: "s1", channel: "server:a.b", history: 0, resume: { at: 5000, seen: { w: 20, old: 90, v: 3 } } },
    ]);
    expect(states).toEqual(["connecting", "open", "lost", "open"]);
    vi.useRealTimers();
  });

  it("begins anew when the connection broke before live began", () => {
    vi.useFakeTimers();
    const { live, sockets } = played();
    live.subscribe({ channel: "server:a.b", history: 100 }, () => {});
    sockets[0]!.onopen!();
    sockets[0]!.tell({ type: "server:log", id: "s1", writer: "w", first: 1, last: 9, left: 0, history: true, items: [] });
    sockets[0]!.onclose!();
    vi.advanceTimersByTime(1_000);
    sockets[1]!.onopen!();
    expect(sockets[1]!.said[0]).toEqual({ type: "subscribe", id: "s1", channel: "server:a.b", history: 100 });
    vi.useRealTimers();
  });

  it("says what was missed when all of it is there, of those that had begun", () => {
    vi.useFakeTimers();
    const { live, sockets } = played();
    const told: unknown[] = [];
    live.caughtUp((missed) => told.push(missed));
    live.subscribe({ channel: "server:a.b", history: 5 }, () => {});
    const end = live.subscribe({ channel: "server:a.c", history: 5 }, () => {});
    sockets[0]!.onopen!();
    sockets[0]!.tell({ type: "live", id: "s1", resume: { at: 1, seen: { w: 4 } } });
    expect(told).toEqual([]);
    sockets[0]!.onclose!();
    vi.advanceTimersByTime(1_000);
    sockets[1]!.onopen!();
    sockets[1]!.tell({ type: "server:log", id: "s1", writer: "w", first: 5, last: 6, left: 0, items: [{ seq: 5 }, { seq: 6 }] });
    sockets[1]!.tell({ type: "dropped", id: "s1", writer: "w", first: 7, last: 9, count: 3, reason: "not-stored" });
    sockets[1]!.tell({ type: "server:log", id: "s2", writer: "v", first: 1, last: 1, left: 0, history: true, items: [{ seq: 1 }] });
    sockets[1]!.tell({ type: "live", id: "s1", resume: { at: 2, seen: { w: 9 } } });
    expect(told).toEqual([]);
    end();
    expect(told).toEqual([{ away: 1_000, records: 2, left: 3 }]);
    sockets[1]!.tell({ type: "server:log", id: "s1", writer: "w", first: 10, last: 10, left: 0, items: [{ seq: 10 }] });
    sockets[1]!.tell({ type: "live", id: "s1", resume: { at: 3, seen: { w: 10 } } });
    expect(told).toHaveLength(1);
    vi.useRealTimers();
  });
  it("asks less and less often a gateway that closes at the first word", () => {
    vi.useFakeTimers();
    const { live, sockets } = played();
    live.subscribe({ channel: "server:a.b" }, () => {});
    for (let second = 0; second < 120; second++) {
      const last = sockets.at(-1)!;
      if (!last.closed) {
        last.onopen!();
        last.tell({ type: "hello", version: 1 });
        last.closed = true;
        last.onclose!();
      }
      vi.advanceTimersByTime(1_000);
    }
    expect(sockets.length).toBeLessThan(25);
    vi.useRealTimers();
  });

  it("gives up a connection on which nothing comes", () => {
    vi.useFakeTimers();
    const { live, sockets } = played();
    live.subscribe({ channel: "server:a.b" }, () => {});
    sockets[0]!.onopen!();
    vi.advanceTimersByTime(40_000);
    sockets[0]!.tell({ type: "heartbeat", time: "", resume: {} });
    vi.advanceTimersByTime(40_000);
    expect(live.state).toBe("open");
    vi.advanceTimersByTime(10_000);
    expect(sockets[0]!.closed).toBe(true);
    expect(sockets).toHaveLength(2);
    vi.useRealTimers();
  });

  it("has one connection, also when somebody begins to listen while it is lost", () => {
    vi.useFakeTimers();
    const { live, sockets } = played();
    live.subscribe({ channel: "server:a.b" }, () => {});
    sockets[0]!.onopen!();
    sockets[0]!.onclose!();
    live.subscribe({ channel: "server:a.c" }, () => {});
    vi.advanceTimersByTime(20_000);
    expect(sockets).toHaveLength(2);
    vi.useRealTimers();
  });

  it("asks again for what was refused for the moment, and not for what is refused for good", () => {
    vi.useFakeTimers();
    const { live, sockets } = played();
    live.subscribe({ channel: "server:a.b" }, () => {});
    live.subscribe({ channel: "server:a.c" }, () => {});
    sockets[0]!.onopen!();
    sockets[0]!.tell({ type: "error", id: "s1", code: "away", message: "" });
    sockets[0]!.tell({ type: "error", id: "s2", code: "not-found", message: "" });
    vi.advanceTimersByTime(10_000);
    expect(sockets[0]!.said.map((m) => m["id"])).toEqual(["s1", "s2", "s1"]);
    vi.useRealTimers();
  });

  it("resumes with as many writers as a gateway takes, those heard of last", () => {
    vi.useFakeTimers();
    const { live, sockets } = played();
    live.subscribe({ channel: "server:a.b" }, () => {});
    sockets[0]!.onopen!();
    sockets[0]!.tell({ type: "live", id: "s1", resume: { at: 1, seen: { first: 1 } } });
    for (let n = 0; n < 5_000; n++) sockets[0]!.tell({ type: "server:log", id: "s1", writer: `w${n}`, first: 1, last: 1, left: 0, items: [] });
    sockets[0]!.tell({ type: "passed", id: "s1", writer: "first", last: 9, left: 8 });
    sockets[0]!.onclose!();
    vi.advanceTimersByTime(1_000);
    sockets[1]!.onopen!();
    const { seen } = sockets[1]!.said[0]!["resume"] as { seen: Record<string, number> };
    expect(Object.keys(seen)).toHaveLength(2_000);
    expect(seen).toMatchObject({ first: 9, w4999: 1 });
    vi.useRealTimers();
  });
});
