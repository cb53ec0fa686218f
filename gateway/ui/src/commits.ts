/** Ids of commits as people say them. */

const LETTERS = 12;

/** The beginning of a commit's id, with the `-dirty` of a folder that differs from it; another name as it is. */
export function short(name: string): string {
  const [, id, dirty = ""] = /^([0-9a-f]{40}|[0-9a-f]{64})(-dirty)?$/.exec(name) ?? [];
  return id ? id.slice(0, LETTERS) + dirty : name;
}
