// Offsets and lengths count code points, as Python does; JavaScript counts UTF-16 units.

/** The number of code points of a text. */
export function codePoints(text: string): number {
  let pairs = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0xd800 && unit < 0xdc00) pairs++;
  }
  return text.length - pairs;
}

/** The first `count` code points of a text. */
export function upTo(text: string, count: number): string {
  let end = 0;
  while (count-- > 0 && end < text.length) end += text.codePointAt(end)! > 0xffff ? 2 : 1;
  return text.slice(0, end);
}
