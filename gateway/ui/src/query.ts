/** The text of a query while it is written: its terms, what may come next. The gateway reads it. Pure. */

export interface Term {
  start: number;
  end: number;
  text: string;
}

/** Pieces between spaces and parentheses; what stands in quotes is of one piece. */
export function terms(query: string): Term[] {
  const found: Term[] = [];
  for (let at = 0; at < query.length; ) {
    if (/[\s()]/.test(query[at]!)) {
      at++;
      continue;
    }
    const start = at;
    let quoted = false;
    for (; at < query.length && (quoted || !/[\s()]/.test(query[at]!)); at++) {
      if (quoted && query[at] === "\\") at++;
      else if (query[at] === '"') quoted = !quoted;
    }
    found.push({ start, end: Math.min(at, query.length), text: query.slice(start, at) });
  }
  return found;
}

/** A value as it stands in a query. */
export const quoted = (value: string): string => (/^[\p{L}\p{N}_./@#$%+-]+$/u.test(value) && !/^(OR|AND|NOT|-.*)$/.test(value) ? value : `"${value.replace(/["\\]/g, "\\$&")}"`);

export const term = (field: string, value: string): string => `${field}:${quoted(value)}`;

export const hasTerm = (query: string, wanted: string): boolean => terms(query).some((one) => one.text === wanted);

export const has = (query: string, field: string, value: string): boolean => hasTerm(query, term(field, value));

/** With the term, or, when it was there, without. */
export function toggledTerm(query: string, wanted: string): string {
  const there = terms(query).filter((one) => one.text === wanted);
  if (!there.length) return `${query.trim()} ${wanted}`.trim();
  let rest = query;
  for (const one of there.reverse()) rest = rest.slice(0, one.start) + rest.slice(one.end);
  return rest.replace(/\s+/g, " ").trim();
}

export const toggled = (query: string, field: string, value: string): string => toggledTerm(query, term(field, value));

export interface Offer {
  /** What is shown. */
  text: string;
  about: string;
  /** What the query becomes, and where one goes on writing. */
  query: string;
  caret: number;
}

const MOST = 12;

/** What may be meant at the caret: fields, or values of the field that stands there. */
export function offers(query: string, caret: number, fields: readonly (readonly [string, string])[], values: ReadonlyMap<string, readonly { value: string; count: number }[]>): Offer[] {
  const here = terms(query).find((one) => one.start <= caret && caret <= one.end) ?? { start: caret, end: caret, text: "" };
  const minus = here.text.startsWith("-") ? "-" : "";
  const text = here.text.slice(minus.length);
  const colon = text.indexOf(":");
  const put = (piece: string, more: string): Pick<Offer, "query" | "caret"> => ({
    query: query.slice(0, here.start) + minus + piece + more + query.slice(here.end).replace(/^\s*/, more ? "" : " ").trimEnd(),
    caret: here.start + minus.length + piece.length + more.length,
  });
  if (colon < 0) {
    const begun = text.toLowerCase();
    return fields
      .filter(([name]) => name.startsWith(begun) && name !== begun)
      .slice(0, MOST)
      .map(([name, about]) => ({ text: `${name}:`, about, ...put(`${name}:`, "") }))
      .map((offer) => ({ ...offer, query: offer.query.trimEnd() }));
  }
  const field = text.slice(0, colon);
  const list = text.slice(colon + 1);
  const begun = list.replace(/^.*,/, "").replace(/^"/, "").toLowerCase();
  const before = list.slice(0, list.lastIndexOf(",") + 1);
  return (values.get(field) ?? [])
    .filter(({ value }) => value.toLowerCase().startsWith(begun) && value.toLowerCase() !== begun)
    .slice(0, MOST)
    .map(({ value, count }) => ({ text: value, about: count ? count.toLocaleString("en") : "", ...put(`${field}:${before}${quoted(value)}`, " ") }));
}

/** The filters of older links, as a query. */
export function fromFilters(level: string, text: string): string {
  return [level ? `level:${level}` : "", text ? `text:"${text.replace(/["\\]/g, "\\$&")}"` : ""].filter(Boolean).join(" ");
}

const KEPT = 20;

/** Queries that were asked last, newest first, in this browser. */
export function asked(signal: string): string[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(`spanyard.asked.${signal}`) ?? "[]");
    return Array.isArray(found) ? found.filter((one): one is string => typeof one === "string") : [];
  } catch {
    return []; // nothing is kept there, or this browser keeps nothing
  }
}

export function remember(signal: string, query: string): void {
  if (!query) return;
  try {
    localStorage.setItem(`spanyard.asked.${signal}`, JSON.stringify([query, ...asked(signal).filter((one) => one !== query)].slice(0, KEPT)));
  } catch {
    // a browser that keeps nothing has no history of queries
  }
}
