package client_test

import (
	"context"
	"fmt"
	"log"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

// Sign in as a guest, make a group, say where you are, and watch the others.
func Example() {
	ctx := context.Background()
	api := client.NewAPI("http://localhost:8080", client.APIConfig{})
	if _, err := api.Guest(ctx, "Ada", "my laptop"); err != nil {
		log.Fatal(err)
	}
	group, err := api.CreateGroup(ctx, client.GroupDraft{Name: "Lake walk"})
	if err != nil {
		log.Fatal(err)
	}
	session, err := client.Connect(ctx, client.Config{Edges: api, Tokens: api})
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	room, err := session.Join(ctx, group.Room())
	if err != nil {
		log.Fatal(err)
	}
	if err := session.Report(client.Fix{Point: geo.Point{Lat: 45.77, Lng: 14.36}, Accuracy: 8}); err != nil {
		log.Fatal(err)
	}
	for event := range room.Events(ctx) {
		switch e := event.(type) {
		case client.FixChanged:
			fmt.Println(e.Fix.User, "is at", e.Fix.Point)
		case client.PresenceChanged:
			fmt.Println(e.Name, e.Device.State)
		case client.MessageArrived:
			fmt.Println(e.Message.SenderName, "says", e.Message.Body)
		case client.RegionChanged:
			if since := e.Reach.UnknownSince; !since.IsZero() {
				fmt.Println(e.Reach.Region, "was last heard of at", since)
			}
		case client.Missed:
			fmt.Println("too slow: here are", room.Members(), room.Fixes())
		}
	}
}

// A message is stored when Send returns, however often the connection broke
// meanwhile.
func ExampleRoom_Send() {
	var room *client.Room // from Session.Join
	message, err := room.Send(context.Background(), "Leaving in ten minutes")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("message number", message.Number)
}

// Refusals carry the codes of docs/protocol.md.
func ExampleIsCode() {
	err := error(&client.Error{Code: "not_member", Status: 404})
	fmt.Println(client.IsCode(err, "not_member"))
	// Output: true
}
