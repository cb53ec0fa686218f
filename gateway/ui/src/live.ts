/**
 * The client of `/ws` (docs/live.md): one socket for all subscriptions of the page. It comes back by
 * itself after a disconnect, and goes on where each subscription was.
 */
import { base } from "./api";

export interface Item {
  seq: number;
  [field: string]: unknown;
}

export interface LogItem extends Item {
  line: string;
  timestamp: string;
  level: string;
  stream?: string;
  container?: string;
  pod?: string;
  traceId?: string;
  spanId?: string;
}

export interface SpanItem extends Item {
  id: string;
  traceId: string;
  parentSpanId?: string;
  name: string;
  startTime: string;
  endTime?: string;
  status?: string;
  spanKind?: string;
  service?: string;
  attributes?: Record<string, unknown>;
}

export type Message =
  | { type: "server:log" | "build:log"; writer: string; first: number; last: number; left: number; history?: boolean; items: LogItem[] }
  | { type: "span:started" | "span:updated" | "span:ended"; writer: string; first: number; last: number; left: number; history?: boolean; items: SpanItem[] }
  | { type: "passed"; writer: string; last: number; left: number }
  | { type: "dropped"; writer: string; first: number; last: number; count: number; reason: string }
  | { type: "live"; resume: Resume }
  | { type: "subscribed"; channel: string; pods: number }
  | { type: "partial"; reason: string; message: string }
  | { type: "error"; code: string; message: string }
  | { type: "build:status"; buildId: string; status: Record<string, unknown> }
  | { type: "deployment:status"; deploymentId: string; status: Record<string, unknown> }
  | { type: "server:health"; serverId: string; healthy: boolean };

export interface Resume {
  at: number;
  seen: Record<string, number>;
}

export interface Wish {
  channel: string;
  history?: number;
  filter?: Record<string, unknown>;
}

export type State = "idle" | "connecting" | "open" | "lost";

/** What came while there was no connection, told when all of it is there. */
export interface Missed {
  /** Without a connection, in milliseconds. */
  away: number;
  /** Lines and spans that came after it. */
  records: number;
  left: number;
}

interface Subscription {
  id: string;
  wish: Wish;
  hear: (message: Message) => void;
  resume: Resume | null;
}

const FIRST_MS = 500;
const LONGEST_MS = 15_000;
/** The gateway says something every 15 s; one that says nothing for three times as long is gone. */
const SILENT_MS = 45_000;
/** Writers of a resume: the gateway takes 4,000, in 256 KiB; of those long ended nothing comes. */
const MOST_RESUMED = 2_000;

/** Ends of a subscription that are not for good. */
const PASSING = new Set(["away", "internal"]);
const LATER_MS = 5_000;

/** `WebSocket`, as far as it is used: tests bring their own. */
export type Socket = Pick<WebSocket, "send" | "close" | "readyState"> & {
  onopen: (() => void) | null;
  onclose: ((event?: { reason: string }) => void) | null;
  onmessage: ((event: { data: string }) => void) | null;
};

export class Live {
  private socket: Socket | null = null;
  /** What the gateway said when it closed the last connection, if it said something. */
  why = "";
  private readonly open = new Map<string, Subscription>();
  private readonly watchers = new Set<(state: State) => void>();
  private number = 0;
  private pause = FIRST_MS;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private silence: ReturnType<typeof setTimeout> | undefined;
  private lostAt = 0;
  /** Since the connection is there again, until each subscription is where it would be. */
  private caught: (Missed & { waits: Set<string> }) | null = null;
  private readonly hearers = new Set<(missed: Missed) => void>();
  state: State = "idle";

  constructor(private readonly connect: () => Socket) {}

  /** Begin to listen; the function that is returned ends it. */
  subscribe(wish: Wish, hear: (message: Message) => void): () => void {
    const id = `s${++this.number}`;
    const subscription = { id, wish, hear, resume: null };
    this.open.set(id, subscription);
    if (this.socket === null) this.start();
    else if (this.state === "open") this.ask(subscription);
    return () => {
      if (!this.open.delete(id)) return;
      this.isThere(id);
      if (this.open.size === 0) this.end();
      else if (this.state === "open") this.say({ type: "unsubscribe", id });
    };
  }

  /** Be told of every change of state; the function that is returned ends it. */
  watch(tell: (state: State) => void): () => void {
    this.watchers.add(tell);
    tell(this.state);
    return () => this.watchers.delete(tell);
  }

  /** Be told of what was missed, after each lost connection; the function that is returned ends it. */
  caughtUp(tell: (missed: Missed) => void): () => void {
    this.hearers.add(tell);
    return () => this.hearers.delete(tell);
  }

  /** For good: nobody hears of anything any more. */
  close(): void {
    this.open.clear();
    this.end();
  }

  private become(state: State): void {
    this.state = state;
    for (const tell of this.watchers) tell(state);
  }

  private start(): void {
    clearTimeout(this.timer); // who begins to listen does not wait for the next try
    if (this.state !== "lost") this.become("connecting");
    const socket = this.connect();
    this.socket = socket;
    socket.onopen = () => {
      if (this.socket !== socket) return;
      this.become("open");
      this.listen(socket);
      if (this.lostAt) this.caught = { away: Date.now() - this.lostAt, records: 0, left: 0, waits: new Set(this.open.keys()) };
      for (const subscription of this.open.values()) this.ask(subscription);
    };
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      this.listen(socket);
      this.take(JSON.parse(event.data) as Message & { id?: string });
    };
    socket.onclose = (event) => this.lose(socket, event?.reason);
  }

  private lose(socket: Socket, why = ""): void {
    if (this.socket !== socket) return;
    this.why = why;
    this.socket = null;
    clearTimeout(this.silence);
    this.caught = null;
    if (this.open.size === 0) return;
    this.lostAt ||= Date.now();
    this.become("lost");
    this.timer = setTimeout(() => this.start(), this.pause * (0.5 + Math.random() / 2));
    this.pause = Math.min(LONGEST_MS, this.pause * 2);
  }

  /** A connection may be gone without a word: a computer that slept, a network that changed. */
  private listen(socket: Socket): void {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      this.lose(socket);
      socket.close();
    }, SILENT_MS);
  }

  private end(): void {
    clearTimeout(this.timer);
    clearTimeout(this.silence);
    this.pause = FIRST_MS;
    this.lostAt = 0;
    this.caught = null;
    const socket = this.socket;
    this.socket = null;
    // One that is only being made is closed when it is there: browsers complain of others.
    if (socket?.readyState === 0) socket.onopen = () => socket.close();
    else socket?.close();
    this.become("idle");
  }

  private say(message: unknown): void {
    this.socket?.send(JSON.stringify(message));
  }

  private ask({ id, wish, resume }: Subscription): void {
    if (resume) {
      const seen = Object.entries(resume.seen);
      if (seen.length > MOST_RESUMED) resume.seen = Object.fromEntries(seen.slice(-MOST_RESUMED));
    }
    this.say({ type: "subscribe", id, ...wish, ...(resume ? { resume, history: 0 } : {}) });
  }

  private take(message: Message & { id?: string; resume?: unknown }): void {
    const subscription = message.id === undefined ? undefined : this.open.get(message.id);
    if (subscription === undefined) {
      if ((message.type as string) === "heartbeat") this.beat(message.resume as Record<string, Resume>);
      return;
    }
    // Not when it opens: a gateway that closes at our first word would be asked twice a second.
    if (message.type === "subscribed") this.pause = FIRST_MS;
    this.count(subscription, message);
    remember(subscription, message);
    if (message.type === "error" && PASSING.has(message.code)) this.askLater(subscription);
    subscription.hear(message);
  }

  /** Before it is remembered: one that had no place yet begins anew, and missed nothing. */
  private count({ id, resume }: Subscription, message: Message): void {
    if (!this.caught?.waits.has(id)) return;
    if (message.type === "live" || message.type === "error") this.isThere(id);
    else if (message.type === "dropped") this.caught.left += message.count;
    else if ("items" in message && resume) this.caught.records += message.items.length;
  }

  private isThere(id: string): void {
    const { caught } = this;
    if (!caught?.waits.delete(id) || caught.waits.size) return;
    this.caught = null;
    this.lostAt = 0;
    for (const tell of this.hearers) tell({ away: caught.away, records: caught.records, left: caught.left });
  }

  private askLater(subscription: Subscription): void {
    const { socket } = this;
    setTimeout(() => {
      // On another connection it was asked for already.
      if (this.socket === socket && this.state === "open" && this.open.get(subscription.id) === subscription) this.ask(subscription);
    }, LATER_MS);
  }

  private beat(tokens: Record<string, Resume>): void {
    for (const [id, token] of Object.entries(tokens)) {
      const subscription = this.open.get(id);
      if (subscription?.resume) subscription.resume.at = token.at;
    }
  }
}

/** Keep the place up to which everything was told: exact to the record. */
function remember(subscription: Subscription, message: Message): void {
  if (message.type === "live") {
    const seen = subscription.resume?.seen ?? {};
    for (const [writer, seq] of Object.entries(message.resume.seen)) seen[writer] = Math.max(seq, seen[writer] ?? 0);
    subscription.resume = { at: message.resume.at, seen };
  } else if ("writer" in message && subscription.resume !== null) {
    const { seen } = subscription.resume;
    const last = Math.max(message.last, seen[message.writer] ?? 0);
    delete seen[message.writer]; // whom we heard of last stands last
    seen[message.writer] = last;
  }
}

export const live = new Live(() => {
  const url = new URL("ws", base);
  url.protocol = url.protocol.replace("http", "ws");
  return new WebSocket(url) as unknown as Socket;
});
