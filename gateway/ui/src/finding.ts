/** What of a trace has the words that are looked for: in what is here, and by the gateway's search in what spans hold. */
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Page, Refused, Span } from "./api";
import { part } from "./api";
import { useAsked } from "./asking";
import { kindOf, text, WORD } from "./spans";

const MOST = 1_000;
/** Until nothing was typed for so long the gateway is not asked. */
const PAUSE_MS = 300;

export interface Found {
  ids: ReadonlySet<string>;
  /** The gateway has further ones. */
  more: boolean;
  waiting: boolean;
  error: Refused | undefined;
}

/** Spans whose name, kind, model or service has the text, and of those that came live all that they hold. */
export function hitsIn(spans: readonly Span[], wanted: string): Set<string> {
  const found = new Set<string>();
  const words = wanted.trim().toLowerCase();
  if (!words) return found;
  for (const span of spans) {
    const told = [span.name, WORD[kindOf(span)], span.model, span.service, span.statusMessage, ...(span.whole ? Object.values(span.attributes ?? {}).map(text) : [])];
    if (told.some((one) => one?.toLowerCase().includes(words))) found.add(span.id);
  }
  return found;
}

/** Words to mark in what is shown: those of a query (docs/search.md), without what must not be there. */
export function wordsOf(query: string): string[] {
  const found: string[] = [];
  for (const [, minus, , quoted, plain] of query.matchAll(/(-?)([\w.]+:)?(?:"([^"]*)"?|([^\s"()]+))/g)) {
    const word = (quoted ?? plain ?? "").replace(/\*$/, "").toLowerCase();
    if (!minus && word && (quoted !== undefined || !/^(or|and|not)$/.test(word))) found.push(word);
  }
  return found;
}

/** Half a query is none yet: a phrase that is open, a field without a value. */
export const isWhole = (query: string): boolean => (query.match(/"/g) ?? []).length % 2 === 0 && !/[:(-]\s*$/.test(query);

export function useFound(project: string, trace: string, spans: readonly Span[], wanted: string): Found {
  const [asking, setAsking] = useState(wanted);
  useEffect(() => {
    const timer = setTimeout(() => setAsking(wanted), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [wanted]);
  const query = asking.trim();
  const asked = useAsked<Page<Span>>(query && isWhole(query) ? `projects/${part(project)}/spans` : "", { traceId: trace, q: query, limit: MOST });
  const here = useMemo(() => hitsIn(spans, wanted), [spans, wanted]);
  const current = query === wanted.trim();
  const ids = useMemo(() => new Set([...here, ...((current && wanted && asked.data?.items) || []).map((span) => span.id)]), [here, asked.data, current]);
  return { ids, more: Boolean(current && asked.data?.nextCursor), waiting: Boolean(wanted.trim()) && (!current || (isWhole(query) && asked.loading)), error: current && wanted ? asked.error : undefined };
}
