package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// 60 % gets, 25 % updates, 5 % each creates, deletes and pages of one namespace, under the eyes of watchers of the range.
func (b *bench) mixed(c command) result {
	revision, err := b.revision()
	if err != nil {
		return failed(err)
	}
	w, err := watch(b.endpointOf(c), c.Watchers, everyWatcher, revision, func(*watchers, *watchAnswer, time.Time) {})
	if err != nil {
		return failed(err)
	}
	defer w.close()
	get := b.gets()
	r := b.repeat(c, func(worker, turn int, t *tally) (string, error) {
		switch dice := rand.IntN(100); {
		case dice < 60:
			return get(worker, turn, t)
		case dice < 85:
			return "update", b.updateOfNext(worker, t)
		case dice < 90:
			return b.create(worker, turn, t)
		case dice < 95:
			what, err := b.delete(worker, turn, t)
			if what == "" && err == nil {
				return b.create(worker, turn, t)
			}
			return what, err
		default:
			return b.pageOfNamespace(worker)
		}
	})
	if err := w.failure(); err != nil {
		r.Errors++
		r.Error = err.Error()
	}
	return r
}

func (b *bench) pageOfNamespace(worker int) (string, error) {
	namespace := fmt.Sprintf("%sns-%d", prefix, rand.IntN(namespaces))
	r, err := b.get(worker, &pb.RangeRequest{
		Key: []byte(namespace + "/"), RangeEnd: []byte(namespace + "0"), Limit: pageSize,
	})
	if err == nil && len(r.Kvs) < min(pageSize, len(b.modified)/namespaces) {
		err = fmt.Errorf("Expected a page of %d keys, got %d", min(pageSize, len(b.modified)/namespaces), len(r.Kvs))
	}
	return "page", err
}
