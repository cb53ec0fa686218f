/** Which of many names somebody means by a few letters. Pure. */

/** Greater is better; undefined when the letters are not there in this order. */
export function score(wanted: string, name: string): number | undefined {
  const letters = wanted.toLowerCase().replace(/\s+/g, "");
  const lower = name.toLowerCase();
  if (!letters) return 0;
  const whole = lower.indexOf(wanted.toLowerCase().trim());
  if (whole >= 0) return 1_000 - whole - lower.length / 100 + (starts(name, whole) ? 200 : 0);
  let at = -1;
  let points = 0;
  for (const letter of letters) {
    const next = lower.indexOf(letter, at + 1);
    if (next < 0) return undefined;
    points += (starts(name, next) ? 8 : 0) + (next === at + 1 ? 5 : 0) - Math.min(5, next - at - 1);
    at = next;
  }
  return points - lower.length / 100;
}

/** A word begins there. */
const starts = (name: string, at: number): boolean => at === 0 || /[\s.\-_/:]/.test(name[at - 1]!) || (/[a-z]/.test(name[at - 1]!) && /[A-Z]/.test(name[at]!));

/** Those that fit, the best first; equal ones in the order that they came in. */
export function ranked<T>(wanted: string, all: readonly T[], name: (one: T) => string, most: number): T[] {
  return all
    .map((one, place) => ({ one, place, points: score(wanted, name(one)) }))
    .filter((found): found is { one: T; place: number; points: number } => found.points !== undefined)
    .sort((a, b) => b.points - a.points || a.place - b.place)
    .slice(0, most)
    .map((found) => found.one);
}
