/** A text with the words that are looked for marked. */
import type { JSX } from "preact";
import { visible } from "../format";

/** Hits beyond these are not marked: each is an element. */
const MOST = 500;

/** Where any of the words is, in order and apart. Pure. */
export function hits(shown: string, words: readonly string[]): [start: number, end: number][] {
  const lower = shown.toLowerCase();
  // Of some letters the small one is longer: then places would not be those of the text.
  if (lower.length !== shown.length) return [];
  const found: [number, number][] = [];
  for (const word of words) for (let at = word ? lower.indexOf(word) : -1; at >= 0 && found.length < MOST; at = lower.indexOf(word, at + word.length)) found.push([at, at + word.length]);
  found.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  let end = 0;
  return found.filter(([a, b]) => a >= end && (end = b) > 0);
}

export function Marked({ text, words }: { text: string; words: readonly string[] }): JSX.Element {
  const shown = visible(text);
  const pieces: (string | JSX.Element)[] = [];
  let at = 0;
  for (const [start, end] of words.length ? hits(shown, words) : []) {
    pieces.push(shown.slice(at, start), <mark key={start}>{shown.slice(start, end)}</mark>);
    at = end;
  }
  return (
    <>
      {pieces}
      {shown.slice(at)}
    </>
  );
}
