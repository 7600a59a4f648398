package notify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
)

// Parted forgets what two people were told about each other, in the transaction in
// which one of them blocks the other: from their lists, and on its way to them.
func (n *Notifier) Parted(ctx context.Context, tx pgx.Tx, a, b core.UserID) error {
	_, err := tx.Exec(ctx, `DELETE FROM notifications WHERE user_id = $1 AND about = $2 OR user_id = $2 AND about = $1`, a, b)
	if err != nil {
		return fmt.Errorf("forget notifications: %w", err)
	}
	return nil
}
