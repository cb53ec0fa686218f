/** Colours that programs print (SGR of ECMA-48) as styles; every other escape sequence is left out. */

export interface Piece {
  text: string;
  style: Record<string, string>;
}

/** Of the theme: each can be read on light and dark, and on the ground of an error. */
const NAMES = Array.from({ length: 8 }, (_, n) => `var(--ansi-${n})`);
// eslint-disable-next-line no-control-regex
const ESCAPE = /\u001b\[([0-9;]*)m|\u001b\[[0-?]*[ -/]*[@-~]|\u001b[@-Z\\-_]/g;

export function ansi(text: string): Piece[] {
  if (!text.includes("\u001b")) return [{ text, style: {} }];
  const pieces: Piece[] = [];
  let style: Record<string, string> = {};
  let at = 0;
  const push = (end: number): void => {
    if (end > at) pieces.push({ text: text.slice(at, end), style });
  };
  for (const match of text.matchAll(ESCAPE)) {
    push(match.index);
    at = match.index + match[0].length;
    if (match[1] !== undefined) style = after(style, match[1]);
  }
  push(text.length);
  return pieces;
}

/** The text alone. */
export const plain = (text: string): string => ansi(text).map((piece) => piece.text).join("");

function after(before: Record<string, string>, codes: string): Record<string, string> {
  let style = { ...before };
  const numbers = codes.split(";").map(Number);
  for (let i = 0; i < numbers.length; i++) {
    const code = numbers[i]!;
    if (code === 0) style = {};
    else if (code === 1) style["font-weight"] = "700";
    else if (code === 2) style["opacity"] = "0.7";
    else if (code === 3) style["font-style"] = "italic";
    else if (code === 4) style["text-decoration"] = "underline";
    else if (code === 22) {
      delete style["font-weight"];
      delete style["opacity"];
    } else if (code === 39) delete style["color"];
    else if (code >= 30 && code <= 37) style["color"] = NAMES[code - 30]!;
    else if (code >= 90 && code <= 97) style["color"] = NAMES[code - 90]!;
    else if (code === 38 || code === 48) {
      // 256 colours or RGB: their arguments are no codes of their own.
      i += numbers[i + 1] === 5 ? 2 : numbers[i + 1] === 2 ? 4 : 0;
    }
  }
  return style;
}
