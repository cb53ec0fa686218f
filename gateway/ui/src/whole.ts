/** What a span holds: a trace comes in outline, the rest when a span is looked at. */
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Page, Span } from "./api";
import { part } from "./api";
import { type Asked, useAsked } from "./asking";
import { earlier } from "./conversation";
import { kindOf } from "./spans";

/** Of spans that have ended, so that the way back to one is short. */
const kept = new Map<string, Span>();
const MOST_KEPT = 200;

const nameOf = (trace: string, span: Span): string => `${trace}/${span.id}`;

/** The span whole; while it is asked for, or where it cannot be had, what is known. */
export interface Whole {
  span: Span;
  /** Of a model call: those before it, whole. */
  before: readonly Span[];
  asked: Asked<Page<Span>>;
  waiting: boolean;
}

/** One that came live holds all that it said. */
export function useWhole(project: string, trace: string, span: Span, spans: readonly Span[]): Whole {
  const before = useMemo(() => (kindOf(span) === "model" ? earlier(span, spans) : []), [span, spans]);
  const wanted = [span, ...before].filter((one) => !one.whole);
  // An id with a comma, which OpenTelemetry has not, cannot be asked for.
  const missing = (): Span[] => wanted.filter((one) => !kept.has(nameOf(trace, one)) && !one.id.includes(","));
  const names = wanted.map((one) => one.id).join();
  const ids = useMemo(() => missing().map((one) => one.id).join(), [trace, names]);
  const asked = useAsked<Page<Span>>(ids && `traces/${part(trace)}/spans`, { project, ids });
  const come = new Map((ids && asked.data ? asked.data.items : []).map((one) => [one.id, one]));
  useEffect(() => {
    for (const one of asked.data?.items ?? []) if (one.endTime) kept.set(nameOf(trace, one), one);
    for (const oldest of kept.keys()) if (kept.size > MOST_KEPT) kept.delete(oldest);
  }, [asked.data]);
  const ended = wanted.filter((one) => one.endTime).length;
  const known = useRef({ names, ended });
  useEffect(() => {
    if (known.current.names === names && known.current.ended !== ended && ids) asked.again(); // what one said at its end
    known.current = { names, ended };
  }, [names, ended]);
  // What came live stays until what is stored is there.
  const heard = useRef<Span | undefined>(undefined);
  if (span.whole) heard.current = span;
  const whole = (one: Span): Span => (one.whole ? one : joined(one, kept.get(nameOf(trace, one)) ?? come.get(one.id) ?? (one === span ? heard.current : undefined)));
  return { span: whole(span), before: before.map(whole), asked, waiting: Boolean(ids) && asked.loading && !heard.current };
}

/** Of one that runs, what was heard is newer than what is stored; of one that has ended, when it did. */
export function joined(known: Span, stored: Span | undefined): Span {
  if (!stored) return known;
  if (known.endTime) return stored.endTime ? stored : { ...stored, ...known, attributes: stored.attributes ?? {} };
  return { ...stored, attributes: { ...stored.attributes, ...known.attributes } };
}
