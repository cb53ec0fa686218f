/** A sentence of the gateway: what stands in backticks is set as what one types. */
import type { JSX } from "preact";
import { visible } from "../format";

export function Worded({ text }: { text: string }): JSX.Element {
  return <>{visible(text).split(/`([^`]+)`/).map((piece, i) => (i % 2 ? <code key={i}>{piece}</code> : piece))}</>;
}
