/** Why something is missing, open or late: what a cause means, and what to do. Pure. */
import type { Backlog, Gap, WriterProof } from "./api";
import { bytes, duration, ms } from "./format";

export interface Why {
  means: string;
  todo: string;
}

/** Causes of gaps, as the collectors write them (docs/collector.md). */
const GAPS: Record<string, Why> = {
  "rotated-away": {
    means: "The log was rotated and deleted before it was read.",
    todo: "Let the node keep more: containerLogMaxSize and containerLogMaxFiles of the kubelet. Look for what held the collector up then: storage away, a full spool.",
  },
  truncated: { means: "The file was cut short or written anew after a part of it was read: a power cut, or something that empties logs.", todo: "See that nothing but the runtime writes or empties the file. What stands in it now is read." },
  deleted: { means: "The file was deleted before all of it was read.", todo: "See that nobody but the collector deletes span files." },
  unreadable: { means: "The log could not be read there; the next file goes on.", todo: "Look at the disk of the node, and at the log of the collector." },
  damaged: { means: "The disk lost records that had been taken.", todo: "Look at the disk of the node: the rest was read and goes on." },
  "spool-damaged": { means: "The disk changed what the collector had set down and not yet uploaded.", todo: "Look at the disk of the node; a new volume for the spool is best." },
  "spool-full": {
    means: "Reading stood still, because what was not uploaded filled the spool. Nothing was lost by that alone.",
    todo: "See that storage takes uploads; a larger spool bridges longer outages.",
  },
};
const OTHER: Why = { means: "The collector told of a loss.", todo: "What it said stands beside; docs/collector.md has more." };

export const ofGap = (gap: Gap): Why => (Object.hasOwn(GAPS, gap.cause) ? GAPS[gap.cause]! : OTHER);

/** How much, as far as it is known. */
export function extent(gap: Gap): string {
  if (gap.lines === 0 && !gap.bytes) return "nothing";
  const known = [gap.lines === null ? "" : `${gap.lines.toLocaleString("en")} ${gap.lines === 1 ? "line" : "lines"}`, gap.bytes ? bytes(gap.bytes) : ""];
  return known.filter(Boolean).join(", ") || "unknown";
}

const BEGINS: Record<string, string> = {
  resumed: "It goes on after an end: the collector was stopped, the application was not.",
  continues: "It goes on for a source whose spool was lost.",
  unverified: "Nobody could tell how far it was stored before, so it was read from its beginning: some lines may be there twice.",
  "name-conflict": "It goes on under a new name, because another copy of its spool had written under the old one.",
};

/** Why a source has no end yet. */
export function ofOpen(writer: WriterProof, now = Date.now()): Why {
  const cause = writer.cause ?? "";
  const told = Object.hasOwn(BEGINS, cause) ? ` ${BEGINS[cause]!}` : "";
  const since = writer.waitingSince ? ms(writer.waitingSince) : now;
  if (now - since > LATE_MS) return { means: `Objects of it have waited for ${duration(now - since)} to be loaded; its end may be among them.${told}`, todo: LOAD };
  return {
    means: `No end was told: it still runs, or its collector was cut off before it could say how much there was.${told}`,
    todo: "As long as its process runs nothing has to be done. When that is gone for good, what it printed last may be lost: a larger terminationReserve of the operator leaves more time for it.",
  };
}

/** Older than this something is wrong with loading; it takes seconds (docs/ingester.md). */
export const LATE_MS = 60_000;
const LOAD = "See whether the ingester runs and ClickHouse answers: /readyz of the ingester says what it waits for.";

/** What waits, since when, and whether that is long. */
export function ofBacklog({ objects, bytes: size, oldestAt, listedAll }: Backlog, now = Date.now()): { told: string; late: boolean; todo: string } {
  if (!objects) return { told: "No object waits to be loaded.", late: false, todo: "" };
  const many = `${listedAll ? "" : "At least "}${objects.toLocaleString("en")} ${objects === 1 ? "object waits" : "objects wait"} (${bytes(size)})`;
  if (!oldestAt) return { told: `${many} to be loaded.`, late: false, todo: "" };
  // Storage has a clock of its own.
  const age = Math.max(0, now - ms(oldestAt));
  return { told: `${many} to be loaded, the oldest for ${age < 1000 ? "less than a second" : duration(age)}.`, late: age > LATE_MS, todo: age > LATE_MS ? LOAD : "" };
}
