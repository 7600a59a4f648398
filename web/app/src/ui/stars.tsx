import type { Rating } from "@muster/sdk";
import { useId } from "preact/hooks";

/** What others gave somebody, in words for those who don't see it. */
export function Stars({ rating }: { rating: Rating | undefined }) {
  if (!rating || rating.average === undefined) return <span class="stars none">Not rated yet</span>;
  const average = rating.average.toFixed(1);
  return (
    <span class="stars" data-testid="stars" role="img" aria-label={`${average} of 5 stars, ${rating.count === 1 ? "1 rating" : `${rating.count} ratings`}`}>
      <span class="star" aria-hidden="true">★</span> {average} <span class="muted">({rating.count})</span>
    </span>
  );
}

/** Five stars to choose from: arrow keys move, as between other choices of one. */
export function StarPicker({ name, value, pick }: { name: string; value: number; pick: (stars: number) => void }) {
  const id = useId();
  return (
    <fieldset class="star-picker">
      <legend class="field-label">{name}</legend>
      {[1, 2, 3, 4, 5].map((n) => (
        <label key={n} data-testid={`star-${n}`} class={n <= value ? "on" : ""}>
          <input type="radio" name={id} value={n} checked={value === n} onChange={() => pick(n)} />
          <span aria-hidden="true">★</span><span class="sr-only">{n === 1 ? "1 star" : `${n} stars`}</span>
        </label>
      ))}
    </fieldset>
  );
}
