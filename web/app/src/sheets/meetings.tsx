import { setMeetDistance } from "../fences.ts";
import { formatDistance } from "../lib/geo.ts";
import { units } from "../settings.ts";
import { myRole } from "../state.ts";
import { attempt } from "../ui/toast.tsx";
import { meetDistance } from "../whereabouts.ts";

const distances = [50, 100, 200, 500, 1000]; // metres

/** At which distance two of the group meet, which all of it is told. */
export function Meetings() {
  const metres = meetDistance.value;
  const offered = [...new Set([0, ...distances, metres])].sort((a, b) => a - b);
  const words = (m: number) => (m === 0 ? "Don't tell" : `Closer than ${formatDistance(m, units.value)}`);
  return (
    <section class="form" aria-label="Meetings">
      <h2 class="section">Meetings</h2>
      <p id="meet-words" class="small muted">
        When two of you come this close, the group is told that they met; and when they part. It goes by what the group may see: who shares no position is left out, and whoever shares only an area is hardly ever near enough.
      </p>
      {myRole.value === "member" ? (
        <p class="small" data-testid="meet-distance" data-value={metres}>{metres === 0 ? "Meetings are not told in this group." : `${words(metres)}.`} Owner and admins may change that.</p>
      ) : (
        <div class="field">
          <label for="meet-distance">Two people meet</label>
          <select id="meet-distance" data-testid="meet-distance" data-value={metres} aria-describedby="meet-words" value={metres}
            onChange={(e) => void attempt(() => setMeetDistance(Number(e.currentTarget.value)))}>
            {offered.map((m) => <option key={m} value={m}>{words(m)}</option>)}
          </select>
        </div>
      )}
    </section>
  );
}
