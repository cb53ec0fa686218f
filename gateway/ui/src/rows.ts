/**
 * Which lines of a long list are rows, and where: those with the words that are searched for, and those
 * of groups that are not folded, each group under a head. Lines that came at the end are looked at alone.
 */

/** As much of a line as is needed here. */
export interface Listed {
  id: string;
  text: string;
  /** Lines of one group that follow each other stand under one head; without: it goes on as before. */
  group?: string | undefined;
  /** A word of the page between the lines: it is no line of the log. */
  told?: boolean | undefined;
}

export interface Group {
  /** `install`; where a group of that name was before, `install:2`. */
  key: string;
  name: string;
  /** Index of its first line. */
  first: number;
  /** Lines of it that may be shown: all, or those with the words. */
  lines: number;
}

export interface Wanted {
  /** In lower case; empty for all lines. */
  words: string;
  grouped: boolean;
  folded: ReadonlySet<string>;
}

export class Rows {
  groups: Group[] = [];
  /** Lines that may be shown, also when they are folded; words of the page are none. */
  lines = 0;
  /** Grows when rows are others than before, not only more. */
  turn = 0;
  /** Index of a line, or -1 - the number of a group for its head; null: each line is its row. */
  private at: number[] | null = null;
  private list: readonly Listed[] = [];
  private wanted = "";
  private first: string | undefined;
  private looked = 0;
  private names = new Map<string, number>();

  update(list: readonly Listed[], { words, grouped, folded }: Wanted): void {
    const wanted = JSON.stringify([words, grouped, [...folded]]);
    if (wanted !== this.wanted || list !== this.list || list[0]?.id !== this.first || list.length < this.looked) {
      this.turn++;
      this.wanted = wanted;
      this.list = list;
      this.first = list[0]?.id;
      this.at = words || grouped ? [] : null;
      this.groups = [];
      this.names = new Map();
      this.looked = this.lines = 0;
    }
    let group = this.groups.at(-1);
    for (let i = this.looked; i < list.length; i++) {
      const { text, told, group: name } = list[i]!;
      const begins = grouped && name !== undefined && name !== group?.name;
      if (begins) {
        const times = (this.names.get(name) ?? 0) + 1;
        this.names.set(name, times);
        group = { key: times > 1 ? `${name}:${times}` : name, name, first: i, lines: 0 };
        this.groups.push(group);
        // While words are searched for only groups with such lines are shown.
        if (!words) this.at!.push(-this.groups.length);
      }
      if (words && (told || !text.toLowerCase().includes(words))) continue;
      if (!told) {
        this.lines++;
        if (group) {
          if (words && group.lines === 0) this.at!.push(-this.groups.length);
          group.lines++;
        }
      }
      if (this.at && !(group && folded.has(group.key))) this.at.push(i);
    }
    this.looked = list.length;
  }

  get length(): number {
    return this.at ? this.at.length : this.looked;
  }

  /** Index of the line in a row; of a head the first line of its group. */
  line(row: number): number {
    const at = this.at ? this.at[row]! : row;
    return at < 0 ? this.groups[-1 - at]!.first : at;
  }

  /** The group whose head a row is. */
  head(row: number): Group | undefined {
    const at = this.at ? this.at[row]! : row;
    return at < 0 ? this.groups[-1 - at] : undefined;
  }

  /** The group that a line is in. */
  groupOf(index: number): Group | undefined {
    return this.groups[before(this.groups.length, (n) => this.groups[n]!.first <= index) - 1];
  }

  /** The row of a line; -1 when it is none. */
  row(index: number): number {
    if (!this.at) return index < this.looked ? index : -1;
    const row = before(this.at.length, (n) => this.line(n) < index || (this.line(n) === index && this.at![n]! < 0));
    return this.at[row] === index ? row : -1;
  }

  /** The row of a group's head; -1 while it is not shown. */
  rowOfHead(group: Group): number {
    const row = before(this.length, (n) => this.line(n) < group.first);
    return this.head(row) === group ? row : -1;
  }
}

/** How many of `length` numbers are such, when those that are come before those that are not. */
function before(length: number, such: (n: number) => boolean): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (such(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}
