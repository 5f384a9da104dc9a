package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (b *bench) reset(keys int) {
	b.modified = make([]atomic.Int64, keys)
	b.next.Store(int64(keys))
	b.extra = nil
}

// Makes the keys, many in one txn where the server takes that, else each by itself. A server that has them already keeps them.
func (b *bench) fill(c command) result {
	b.reset(c.Keys)
	r, err := b.get(0, &pb.RangeRequest{Key: []byte(prefix), RangeEnd: []byte(prefixEnd), CountOnly: true})
	if err != nil {
		return failed(err)
	}
	if r.Count > 0 {
		return b.learn(c)
	}
	w := begin()
	single, err := b.fillSome(0, 0, min(fillOps, c.Keys))
	if err != nil {
		return failed(err)
	}
	tallies := make([]tally, fillWorkers)
	if single {
		tallies = make([]tally, 64)
	}
	var next atomic.Int64
	next.Store(int64(min(fillOps, c.Keys)))
	var wait sync.WaitGroup
	for worker := range tallies {
		wait.Go(func() {
			for {
				from := int(next.Add(fillOps) - fillOps)
				if from >= c.Keys {
					return
				}
				start := time.Now()
				if err := b.fillPart(worker, from, min(from+fillOps, c.Keys), single); err != nil {
					tallies[worker].failed(err)
					return
				}
				tallies[worker].took("fill", time.Since(start))
			}
		})
	}
	wait.Wait()
	result := w.end(tallies)
	result.Keys = c.Keys
	return result
}

// True: the server takes one operation in a txn.
func (b *bench) fillSome(worker, from, to int) (bool, error) {
	err := b.fillPart(worker, from, to, false)
	switch status.Code(err) {
	case codes.Unimplemented, codes.InvalidArgument, codes.Unknown:
		if err != nil {
			return true, b.fillPart(worker, from, to, true)
		}
	}
	return false, err
}

func (b *bench) fillPart(worker, from, to int, single bool) error {
	var ops []*pb.RequestOp
	for index := from; index < to; index++ {
		key := keyOf(index)
		if !single {
			ops = append(ops, put(key, b.value()))
			continue
		}
		r, err := b.txn(worker, &pb.TxnRequest{Compare: modIs(key, 0), Success: []*pb.RequestOp{put(key, b.value())}})
		if err != nil {
			return err
		}
		b.modified[index].Store(r.Header.Revision)
	}
	if single {
		return nil
	}
	r, err := b.txn(worker, &pb.TxnRequest{Success: ops})
	if err != nil {
		return err
	}
	for index := from; index < to; index++ {
		b.modified[index].Store(r.Header.Revision)
	}
	return nil
}

// Takes over the keys that an earlier run has left at the server.
func (b *bench) learn(c command) result {
	w := begin()
	seen := 0
	for key := prefix; ; {
		r, err := b.get(0, &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(prefixEnd), Limit: 10000, KeysOnly: true})
		if err != nil {
			return failed(err)
		}
		for _, kv := range r.Kvs {
			index, err := indexOf(string(kv.Key))
			if err != nil {
				return failed(err)
			}
			seen++
			if index < c.Keys {
				b.modified[index].Store(kv.ModRevision)
			} else {
				b.extra = append(b.extra, created{index, kv.ModRevision})
				b.next.Store(max(b.next.Load(), int64(index+1)))
			}
			key = string(kv.Key) + "\x00"
		}
		if !r.More {
			break
		}
	}
	if b.present() != seen {
		return failed(fmt.Errorf("Expected %d keys below %s or none at all, got %d", c.Keys, prefix, seen-len(b.extra)))
	}
	result := w.end(nil)
	result.Keys = seen
	return result
}

// The inverse of keyOf.
func indexOf(key string) (int, error) {
	number, err := strconv.ParseUint(key[strings.LastIndexByte(key, '-')+1:], 16, 32)
	if err != nil {
		return 0, err
	}
	// Newton's iteration doubles the right bits of the inverse: 3, 6, 12, 24, 48.
	inverse := uint32(spread)
	for range 4 {
		inverse *= 2 - spread*inverse
	}
	return int(uint32(number) * inverse), nil
}

// The keys were written behind the server's back, one revision each.
func (b *bench) adopt(c command) result {
	b.reset(c.Keys)
	for index := range b.modified {
		b.modified[index].Store(c.First + int64(index))
	}
	return result{Keys: c.Keys}
}
