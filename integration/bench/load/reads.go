package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// How many updates put a revision into the past.
const updatesBetween = 64

func (b *bench) gets() task {
	return func(worker, _ int, _ *tally) (string, error) {
		key := keyOf(rand.IntN(len(b.modified)))
		r, err := b.get(worker, &pb.RangeRequest{Key: []byte(key)})
		if err != nil {
			return "", err
		}
		if len(r.Kvs) != 1 || len(r.Kvs[0].Value) == 0 {
			return "", fmt.Errorf("Expected %s with a value, got %d keys", key, len(r.Kvs))
		}
		return "get", nil
	}
}

// The first page of a list.
func (b *bench) page(worker, _ int, _ *tally) (string, error) {
	_, err := b.pageFrom(worker, prefix, 0, true)
	return "page", err
}

func (b *bench) pageFrom(worker int, key string, revision int64, full bool) (*pb.RangeResponse, error) {
	r, err := b.get(worker, &pb.RangeRequest{
		Key: []byte(key), RangeEnd: []byte(prefixEnd), Limit: pageSize, Revision: revision,
	})
	if err != nil {
		return nil, err
	}
	if want := min(pageSize, len(b.modified)); full && len(r.Kvs) < want {
		return nil, fmt.Errorf("Expected a page of %d keys, got %d", want, len(r.Kvs))
	}
	return r, nil
}

func after(r *pb.RangeResponse) string { return string(r.Kvs[len(r.Kvs)-1].Key) + "\x00" }

// Updates that nobody measures.
func (b *bench) moveOn() error {
	var t tally
	for range updatesBetween {
		if err := b.updateOfNext(0, &t); err != nil {
			return err
		}
	}
	return nil
}

// The pages after the first one, at its revision, which is a past one by then.
func (b *bench) continuePages(c command) result {
	first, err := b.pageFrom(0, prefix, 0, true)
	if err == nil {
		err = b.moveOn()
	}
	if err != nil {
		return failed(err)
	}
	next := first
	return b.repeat(c, func(worker, _ int, _ *tally) (string, error) {
		if !next.More {
			next = first
		}
		r, err := b.pageFrom(worker, after(next), first.Header.Revision, false)
		if err != nil {
			return "", err
		}
		if len(r.Kvs) == 0 {
			return "", fmt.Errorf("Expected a page behind one with more, got an empty one")
		}
		next = r
		return "page", nil
	})
}

// A list of everything in pages, as kube-apiserver fills its cache; the rate is in keys. Ends early when it takes too long.
func (b *bench) list(c command) result {
	var t tally
	w := begin()
	end := w.began.Add(seconds(c.Seconds) * 10)
	keys := 0
	var revision int64
	for key, more := prefix, true; more && time.Now().Before(end); {
		start := time.Now()
		r, err := b.pageFrom(0, key, revision, revision == 0)
		if err != nil {
			t.failed(err)
			break
		}
		t.took("page", time.Since(start))
		keys += len(r.Kvs)
		key, more, revision = after(r), r.More, r.Header.Revision
		if !more && keys != b.present() {
			t.failed(fmt.Errorf("Expected %d keys in the list, got %d", b.present(), keys))
		}
	}
	result := w.end([]tally{t})
	result.Keys = keys
	result.Rate = float64(keys) / result.Seconds
	return result
}

func (b *bench) count(worker, _ int, _ *tally) (string, error) {
	return b.countAt(worker, 0, b.present())
}

func (b *bench) countAt(worker int, revision int64, want int) (string, error) {
	r, err := b.get(worker, &pb.RangeRequest{
		Key: []byte(prefix), RangeEnd: []byte(prefixEnd), CountOnly: true, Revision: revision,
	})
	if err != nil {
		return "", err
	}
	if int(r.Count) != want {
		return "", fmt.Errorf("Expected a count of %d, got %d", want, r.Count)
	}
	return "count", nil
}

// At a revision after which keys were updated and created.
func (b *bench) countPast(c command) result {
	r, err := b.get(0, &pb.RangeRequest{Key: []byte(outside)})
	if err != nil {
		return failed(err)
	}
	want := b.present()
	var t tally
	if err := b.moveOn(); err != nil {
		return failed(err)
	}
	for range 4 {
		if _, err := b.create(0, 0, &t); err != nil {
			return failed(err)
		}
	}
	return b.repeat(c, func(worker, _ int, _ *tally) (string, error) {
		return b.countAt(worker, r.Header.Revision, want)
	})
}
