import { account } from "../state.ts";
import { Groups } from "./groups.tsx";
import { Welcome } from "./welcome.tsx";

export function HomePage() {
  return account.value ? <Groups /> : <Welcome />;
}
