import { LocationProvider, Route, Router } from "preact-iso";
import { startProblem } from "./live.ts";
import { GroupPage } from "./pages/group.tsx";
import { HomePage } from "./pages/home.tsx";
import { JoinPage } from "./pages/join.tsx";
import { LinkPage } from "./pages/link.tsx";
import { account } from "./state.ts";
import { Toast } from "./ui/toast.tsx";

export function App() {
  // Until it is known who this is, no page: it would be the wrong one for a blink.
  return (
    <LocationProvider>
      {account.value === undefined && startProblem.value !== "" && (
        <p class="frame lead" role="status">Muster can't be reached ({startProblem.value}). Trying again…</p>
      )}
      {account.value !== undefined && (
        <Router>
          <Route path="/" component={HomePage} />
          <Route path="/join/:code" component={JoinPage} />
          <Route path="/g/:id" component={GroupPage} />
          <Route path="/l/:token" component={LinkPage} />
          <Route default component={HomePage} />
        </Router>
      )}
      <Toast />
    </LocationProvider>
  );
}
