/** What the gateway answers; the types follow its OpenAPI document. */
import { tellAway, tellBack } from "./stale";

export interface Condition {
  type: string;
  status: string;
  reason: string;
  message?: string;
  lastTransitionTime?: string;
}

export interface Failure {
  reason: string;
  message: string;
  step?: string;
  exitCode?: number | null;
  pod?: string;
  container?: string;
  lastLines?: string[];
  remedy?: string;
}

export interface Step {
  name: string;
  startedAt?: string;
  finishedAt?: string;
  exitCode?: number | null;
}

/** What was fetched. Subject and author are somebody's text. */
export interface Source {
  commit?: string;
  subject?: string;
  author?: string;
  committedAt?: string;
  digest?: string;
}

export interface BuildStatus {
  phase?: string;
  reason?: string;
  message?: string;
  step?: string;
  steps?: Step[];
  attempt?: number;
  queuedAt?: string;
  startedAt?: string;
  finishedAt?: string;
  duration?: string;
  failure?: Failure | null;
  source?: Source;
  artifact?: { key?: string; digest?: string; size?: number };
  logComplete?: boolean;
}

export interface Revision {
  number: number;
  hash: string;
  state: string;
  build?: string;
  image?: string;
  startedAt?: string;
  readyAt?: string;
  endedAt?: string;
  /** In a cluster: as in the names of its pods. */
  templates?: string[];
  reason?: string;
}

export interface DeploymentStatus {
  conditions?: Condition[];
  reason?: string;
  message?: string;
  endpoint?: string;
  revision?: number;
  build?: string;
  replicas?: number;
  readyReplicas?: number;
  restarts?: number;
  revisions?: Revision[];
  failure?: Failure | null;
  collector?: { mode?: string; guarantee?: string };
}

interface Meta {
  name: string;
  namespace: string;
  uid?: string;
  creationTimestamp?: string;
}

export interface ResourceEvent {
  time: string;
  type: string;
  reason: string;
  message: string;
  count?: number;
}

export interface Project {
  id: string;
  records: number;
  lastDay: string | null;
  resource?: { metadata: Meta; spec: { displayName?: string }; status?: { latestBuild?: string } } | null;
}

export interface Build {
  id: string;
  complete: boolean;
  events?: ResourceEvent[];
  resource?: {
    metadata: Meta;
    spec: { project: string; source?: Record<string, unknown>; install?: string; build?: string };
    status?: BuildStatus;
  } | null;
}

export interface Deployment {
  id: string;
  projectId: string;
  name: string;
  events?: ResourceEvent[];
  resource?: {
    metadata: Meta;
    spec: { project: string; follow?: boolean; replicas?: number; suspend?: boolean };
    status?: DeploymentStatus;
  } | null;
}

export interface Trace {
  id: string;
  projectId: string;
  name: string;
  service: string;
  deployment: string;
  startTime: string;
  endTime: string | null;
  durationNs: number | null;
  status: "ok" | "error" | "unset";
  spans: number;
  errors: number;
  inputTokens: number;
  outputTokens: number;
  cost: number;
  /** Unfinished, and nothing was heard of it for long. */
  hung?: boolean;
  /** Unfinished, and the process that began it has ended. */
  lost?: boolean;
  /** The newest of each name. */
  scores?: Record<string, number | string>;
}

export interface Span {
  id: string;
  traceId?: string;
  parentSpanId?: string;
  name: string;
  startTime: string;
  endTime: string | null;
  durationNs: number | null;
  status: "ok" | "error" | "unset";
  hung?: boolean;
  lost?: boolean;
  statusMessage?: string;
  spanKind?: string;
  service?: string;
  pod?: string;
  model?: string;
  inputTokens?: number;
  outputTokens?: number;
  cost?: number;
  attributes?: Record<string, unknown>;
  events?: { name: string; timestamp: string; attributes?: Record<string, unknown> }[];
  /** It came live, with all that it holds; others are outlines. */
  whole?: boolean;
}

export interface Score {
  id: string;
  name: string;
  value: number | string;
  timestamp: string;
  traceId: string;
  spanId: string;
  comment: string;
}

/** Its spans in outline: what they hold is asked for when one is looked at. */
export interface TraceOutline {
  id: string;
  projectId: string;
  startTime: string;
  endTime: string | null;
  spans: Span[];
  scores: Score[];
  truncated: boolean;
}

export interface LogLine {
  id: string;
  seq: number;
  writer: string;
  timestamp: string;
  level: string;
  message: string;
  traceId: string;
  spanId: string;
  deployment: string;
  build: string;
  pod: string;
  container: string;
  stream: string;
  attributes?: Record<string, unknown>;
  [field: string]: unknown;
}

export interface WriterProof {
  writer: string;
  signal: string;
  projectId: string;
  deployment: string;
  build?: string;
  pod: string;
  container: string;
  state: string;
  expected: number;
  stored: number;
  quarantined: number;
  pending: number;
  missing: number;
  doubled: number;
  lostLines: number;
  lostBytes: number;
  gaps: number;
  begunAt: string;
  endedAt: string;
  /** Of its beginning. */
  cause?: string;
  message?: string;
  waitingSince?: string;
}

export interface Gap {
  writer: string;
  projectId: string;
  signal: string;
  cause: string;
  message: string;
  afterSeq: number;
  lines: number | null;
  bytes: number | null;
  fromTime: string;
  toTime: string;
  timestamp: string;
}

export interface Backlog {
  objects: number;
  bytes: number;
  oldestAt: string;
  listedAll: boolean;
}

export interface Proof {
  complete: boolean;
  writers: WriterProof[];
  gaps: Gap[];
  backlog?: Backlog;
}

export interface Quarantined {
  id: string;
  key: string;
  signal: string;
  projectId: string;
  line: number;
  offset: number;
  reason: string;
  size: number;
  status: string;
  quarantinedAt: string;
  text: string;
}

export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

/** Where the gateway is: the page lies at `{base}ui/`. */
export const base = new URL("..", document.baseURI);

/** What the gateway said instead of an answer; the text is fit for people. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** Where in a query, in characters. */
    readonly at?: { start: number; end: number },
  ) {
    super(message);
  }
}

type Params = Record<string, string | number | undefined | null>;

export function address(path: string, params: Params = {}): URL {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, String(value));
  }
  return url;
}

async function asked<T>(url: URL, init: RequestInit): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(url, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refused(0, "The gateway does not answer. Is it still running?");
  }
  if (!answer.ok) {
    let text = `${answer.status} ${answer.statusText}`;
    let at: { start: number; end: number } | undefined;
    try {
      const problem = (await answer.json()) as { detail?: string; title?: string; at?: { start: number; end: number } };
      text = problem.detail ?? problem.title ?? text;
      at = problem.at;
    } catch {
      // not a problem document: the status has to do
    }
    if (answer.status === 503) tellAway(url.pathname, text);
    throw new Refused(answer.status, text, at);
  }
  tellBack(url.pathname);
  return (await answer.json()) as T;
}

export function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  return asked<T>(address(path, params), signal ? { signal } : {});
}

export function post<T>(path: string, body: unknown): Promise<T> {
  return asked<T>(address(path), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

/** An id as a part of a path. */
export const part = encodeURIComponent;
