/** Places in a list that may be taller than a browser makes an element. Pure. */

/** Firefox ends at 17.9 million pixels, Chrome at 33.5; a million lines are 20 million. */
export const TALLEST = 16_000_000;

export interface Scroll {
  /** Of the element, in pixels. */
  tall: number;
  /** Where in the whole list the view begins, of the element's own place. */
  place: (top: number) => number;
  /** The element's place for one in the whole list. */
  top: (place: number) => number;
}

/** `whole`: pixels of all rows; `height`: of what is seen. The same numbers for a list that fits. */
export function scroll(whole: number, height: number, tallest = TALLEST): Scroll {
  const tall = Math.min(whole, tallest);
  const ratio = whole > tall && tall > height ? (whole - height) / (tall - height) : 1;
  return { tall, place: (top) => top * ratio, top: (place) => place / ratio };
}
