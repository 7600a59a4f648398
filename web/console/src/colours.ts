// A colour per node of a region: told apart by lightness as well as by hue, and
// never the only sign, since names and numbers stand beside them.

const light = ["#12757e", "#e0b566", "#8670b5", "#cc7f97", "#5a92cc", "#87a75a", "#9b755c", "#6c7983"];
const dark = ["#3aa3ac", "#d9b878", "#9583c6", "#d393a8", "#6e9fd2", "#9cba76", "#b39080", "#8796a0"];

/** Of the nodes with these names. */
export function colours(ids: readonly string[], isDark: boolean): ReadonlyMap<string, string> {
  const palette = isDark ? dark : light;
  return new Map([...ids].sort().map((id, i) => [id, palette[i % palette.length]!]));
}
