package httpapi

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// The document says of each operation that reads whether what it answers may be old.
func TestConsistencyIsStated(t *testing.T) {
	b := setup(t)
	var doc obj
	require.NoError(t, json.Unmarshal(b.ok("GET", "/openapi.json", "", nil).raw, &doc))
	var stale []string
	for _, d := range operationsOf(doc) {
		switch says := d.operation["x-consistency"]; {
		case d.method != "GET":
			require.Nil(t, says, d.id)
		case says == "stale":
			stale = append(stale, d.id)
		default:
			require.Equal(t, "strong", says, d.id)
		}
	}
	require.Equal(t, []string{"get-user", "list-directory", "list-plans"}, stale)
}
