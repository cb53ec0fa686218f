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

interface Subscription {
  id: string;
  wish: Wish;
  hear: (message: Message) => void;
  resume: Resume | null;
}

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

/** `WebSocket`, as far as it is used: tests bring their own. */
export type Socket = Pick<WebSocket, "send" | "close" | "readyState"> & {
  onopen: (() => void) | null;
  onclose: (() => void) | null;
  onmessage: ((event: { data: string }) => void) | null;
};

export class Live {
  private socket: Socket | null = null;
  private readonly open = new Map<string, Subscription>();
  private readonly watchers = new Set<(state: State) => void>();
  private number = 0;
  private pause = FIRST_MS;
  private timer: ReturnType<typeof setTimeout> | undefined;
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

  private become(state: State): void {
    this.state = state;
    for (const tell of this.watchers) tell(state);
  }

  private start(): void {
    if (this.state !== "lost") this.become("connecting");
    const socket = this.connect();
    this.socket = socket;
    socket.onopen = () => {
      this.pause = FIRST_MS;
      this.become("open");
      for (const subscription of this.open.values()) this.ask(subscription);
    };
    socket.onmessage = (event) => this.take(JSON.parse(event.data) as Message & { id?: string });
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (this.open.size === 0) return;
      this.become("lost");
      this.timer = setTimeout(() => this.start(), this.pause * (0.5 + Math.random() / 2));
      this.pause = Math.min(LONGEST_MS, this.pause * 2);
    };
  }

  private end(): void {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.become("idle");
  }

  private say(message: unknown): void {
    this.socket?.send(JSON.stringify(message));
  }

  private ask({ id, wish, resume }: Subscription): void {
    this.say({ type: "subscribe", id, ...wish, ...(resume ? { resume, history: 0 } : {}) });
  }

  private take(message: Message & { id?: string; resume?: unknown }): void {
    const subscription = message.id === undefined ? undefined : this.open.get(message.id);
    if (subscription === undefined) {
      if ((message.type as string) === "heartbeat") this.beat(message.resume as Record<string, Resume>);
      return;
    }
    remember(subscription, message);
    subscription.hear(message);
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
    seen[message.writer] = Math.max(message.last, seen[message.writer] ?? 0);
  }
}

export const live = new Live(() => {
  const url = new URL("ws", base);
  url.protocol = url.protocol.replace("http", "ws");
  return new WebSocket(url) as unknown as Socket;
});
