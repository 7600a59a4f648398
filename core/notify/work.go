package notify

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

func (n *Notifier) plan(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error { return nil }

func (n *Notifier) enqueueMail(ctx context.Context, tx pgx.Tx, id uuid.UUID) error { return nil }
