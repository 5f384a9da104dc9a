package main

import (
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	hotKeys = 4
	// etcd takes 128 operations in one txn.
	fillOps     = 100
	fillWorkers = 8
)

func (b *bench) updates() task {
	return func(worker, _ int, t *tally) (string, error) {
		return "update", b.updateOfNext(worker, t)
	}
}

func (b *bench) create(worker, _ int, _ *tally) (string, error) {
	index := int(b.next.Add(1) - 1)
	key := keyOf(index)
	r, err := b.txn(worker, &pb.TxnRequest{Compare: modIs(key, 0), Success: []*pb.RequestOp{put(key, b.value())}})
	if err != nil {
		return "", err
	}
	if !r.Succeeded {
		return "", fmt.Errorf("Expected %s to be created, got a key that exists", key)
	}
	b.remember(created{index, r.Header.Revision})
	return "create", nil
}

// Deletes a key that was created before; "" when there is none.
func (b *bench) delete(worker, _ int, _ *tally) (string, error) {
	c, ok := b.forget()
	if !ok {
		return "", nil
	}
	key := keyOf(c.index)
	r, err := b.txn(worker, &pb.TxnRequest{
		Compare: modIs(key, c.revision),
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)},
		}}},
		Failure: orGet(key),
	})
	if err != nil {
		return "", err
	}
	if !r.Succeeded {
		return "", fmt.Errorf("Expected %s to be deleted at %d, got a failed compare", key, c.revision)
	}
	return "delete", nil
}

// Deletes everything that was created, so that the other scenarios find as many keys in each round.
func (b *bench) deleteAll(c command) result {
	tallies := make([]tally, c.Clients)
	var wait sync.WaitGroup
	w := begin()
	for worker := range tallies {
		wait.Go(func() {
			t := &tallies[worker]
			for {
				start := time.Now()
				what, err := b.delete(worker, 0, t)
				if err != nil {
					t.failed(err)
				} else if what == "" {
					return
				} else {
					t.took(what, time.Since(start))
				}
			}
		})
	}
	wait.Wait()
	return w.end(tallies)
}

// Every client wins one update after the other on few keys; a lost compare tells it the revision for its next attempt. What is
// counted are updates that won, and how long each took with its attempts.
func (b *bench) hot(c command) result {
	known := make([][hotKeys]int64, c.Clients)
	return b.repeat(c, func(worker, turn int, t *tally) (string, error) {
		index := (worker + turn) % hotKeys
		for {
			revision, won, err := b.updateAt(worker, keyOf(index), known[worker][index])
			if err != nil {
				return "", err
			}
			known[worker][index] = revision
			b.modified[index].Store(revision)
			if won {
				return "win", nil
			}
			t.conflicts++
		}
	})
}

func (b *bench) compact(c command) result {
	w := begin()
	var t tally
	ctx, cancel := within()
	defer cancel()
	start := time.Now()
	if _, err := b.client(0).Compact(ctx, &pb.CompactionRequest{Revision: c.Revision}); err != nil {
		t.failed(err)
	} else {
		t.took("compact", time.Since(start))
	}
	return w.end([]tally{t})
}
