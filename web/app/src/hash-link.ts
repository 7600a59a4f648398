// Links may carry the page behind a hash ("/#/join/CODE"), for places where
// only the first page is served: turn them into plain paths. Imported before
// everything that reads the address.
if (location.hash.startsWith("#/")) history.replaceState(null, "", location.hash.slice(1));

export {};
