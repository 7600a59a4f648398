import { useEffect, useState } from "preact/hooks";
import { addZone, here, removeZone } from "../granting.ts";
import { formatDistance } from "../lib/geo.ts";
import { precisionWords } from "../lib/precision.ts";
import { liveMap } from "../map/map.tsx";
import { units } from "../settings.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { showZones, zones } from "../whereabouts.ts";

const radii = [250, 500, 1000, 2000]; // metres
const DISTRICT = "r7";

/** Places, such as one's home, where nobody sees finer than the district. */
export function Zones() {
  const [radius, setRadius] = useState(500);
  useEffect(() => {
    showZones.value = true;
    return () => void (showZones.value = false);
  }, []);
  const at = here();
  const add = async () => {
    const center = at ?? liveMap.value?.centre();
    if (!center) throw new Error("It is not known where: share your position, or move the map there.");
    await addZone({ name: zones.value.length === 0 ? "Home" : `Home ${zones.value.length + 1}`, center, radius, precision: DISTRICT });
  };
  return (
    <section class="form" aria-label="Home zone">
      <h2 class="section">Home zone</h2>
      <p class="small muted">Inside it nobody sees more than the district, whatever you share. Only you know where it is.</p>
      {zones.value.length > 0 && (
        <ul class="items" aria-label="Your zones">
          {zones.value.map((z) => (
            <li key={z.zoneId} data-testid="zone">
              <span class="row-icon"><Icon name="home" /></span>
              <span class="grow">
                <strong>{z.name || "Zone"}</strong>
                <small>{formatDistance(z.radius, units.value)} around · {precisionWords(z.precision, units.value)}</small>
              </span>
              <Button kind="icon" aria-label={`Show ${z.name} on the map`} action={() => liveMap.value?.goTo(z.center)}><Icon name="locate" /></Button>
              <Button kind="icon" aria-label={`Delete ${z.name}`} data-testid="delete-zone" action={() => removeZone(z.zoneId)}><Icon name="close" /></Button>
            </li>
          ))}
        </ul>
      )}
      <div class="inline end">
        <div class="field">
          <label for="zone-radius">Radius</label>
          <select id="zone-radius" value={radius} onChange={(e) => setRadius(Number(e.currentTarget.value))}>
            {radii.map((r) => <option key={r} value={r}>{formatDistance(r, units.value)}</option>)}
          </select>
        </div>
        <Button data-testid="add-zone" action={add}>{at ? "Set it here" : "Set it at the middle of the map"}</Button>
      </div>
    </section>
  );
}
