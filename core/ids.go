package core

import (
	"fmt"

	"github.com/google/uuid"
)

// ParseUserID reads an id in its canonical form, the only one that is written.
func ParseUserID(s string) (UserID, error) { id, err := parse(s); return UserID(id), err }

// ParseGroupID reads an id in its canonical form.
func ParseGroupID(s string) (GroupID, error) { id, err := parse(s); return GroupID(id), err }

// ParseLoginID reads an id in its canonical form.
func ParseLoginID(s string) (LoginID, error) { id, err := parse(s); return LoginID(id), err }

// ParseFleetID reads an id in its canonical form.
func ParseFleetID(s string) (FleetID, error) { id, err := parse(s); return FleetID(id), err }

func parse(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err == nil && id.String() != s { // urn:uuid:…, braces, upper case
		err = fmt.Errorf("uuid %q is not in canonical form", s)
	}
	return id, err
}
