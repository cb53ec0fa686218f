/** Steps of a build in its log. */
import type { Shown } from "./parts/logview";

/** The id of the first line that a step printed; in a cluster our own steps are named `spanyard-…`. */
export function firstLine(step: string, lines: readonly Shown[]): string | undefined {
  const at = lines.findIndex((line) => line.told && line.text.replace(/^▾ (spanyard-)?/, "") === step);
  const line = at < 0 ? undefined : lines[at + 1];
  return line && !line.told ? line.id : undefined;
}
