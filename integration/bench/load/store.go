package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	prefix     = "/registry/bench.example.com/things/"
	prefixEnd  = "/registry/bench.example.com/things0"
	outside    = "/registry/bench.example.com/others/ns-0/thing"
	namespaces = 10
	pageSize   = 500
	// Odd, so that it permutes the numbers below 2^32: neighbours in time are not neighbours in the order of keys.
	spread = 2654435761
)

func keyOf(index int) string {
	return fmt.Sprintf("%sns-%d/thing-%08x", prefix, index%namespaces, uint32(index)*spread)
}

// A key above those of the first fill.
type created struct {
	index    int
	revision int64
}

type bench struct {
	conns  []*grpc.ClientConn
	kvs    []pb.KVClient
	random []byte
	bytes  int
	// Last known revision of each key; 0: not known.
	modified []atomic.Int64
	turn     atomic.Int64
	next     atomic.Int64

	lock  sync.Mutex
	extra []created
}

func dial(endpoint string, n int) ([]*grpc.ClientConn, error) {
	conns := make([]*grpc.ClientConn, n)
	for i := range conns {
		conn, err := grpc.NewClient("passthrough:///"+endpoint,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
		if err != nil {
			return nil, err
		}
		conns[i] = conn
	}
	return conns, nil
}

func open(endpoint string, connections, valueBytes int) (*bench, error) {
	conns, err := dial(endpoint, connections)
	if err != nil {
		return nil, err
	}
	b := &bench{conns: conns, bytes: valueBytes, random: make([]byte, 1<<20+valueBytes)}
	// No database can make much less of it than its length.
	source := rand.New(rand.NewPCG(1, 2))
	for i := range b.random {
		b.random[i] = byte(source.Uint32())
	}
	for _, conn := range conns {
		b.kvs = append(b.kvs, pb.NewKVClient(conn))
	}
	return b, nil
}

func (b *bench) client(worker int) pb.KVClient { return b.kvs[worker%len(b.kvs)] }

func (b *bench) value() []byte {
	at := rand.IntN(len(b.random) - b.bytes)
	return b.random[at : at+b.bytes]
}

// The longest that a request may take before it counts as failed.
const requestMax = 2 * time.Minute

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), requestMax)
}

func modIs(key string, revision int64) []*pb.Compare {
	return []*pb.Compare{{
		Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, Key: []byte(key),
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
	}}
}

func put(key string, value []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: []byte(key), Value: value},
	}}
}

func orGet(key string) []*pb.RequestOp {
	return []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}}
}

func (b *bench) txn(worker int, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	ctx, cancel := within()
	defer cancel()
	return b.client(worker).Txn(ctx, r)
}

func (b *bench) get(worker int, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	ctx, cancel := within()
	defer cancel()
	return b.client(worker).Range(ctx, r)
}

// The object that a lost compare answers with; nil: it is not there.
func found(r *pb.TxnResponse) (*mvccpb.KeyValue, error) {
	if len(r.Responses) != 1 || r.Responses[0].GetResponseRange() == nil {
		return nil, errors.New("Expected a range in the answer of a failed compare, got none")
	}
	if kvs := r.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		return kvs[0], nil
	}
	return nil, nil
}

// Updates the key if its revision is the given one. Gives the revision that the key has now, and whether this call made it.
func (b *bench) updateAt(worker int, key string, revision int64) (int64, bool, error) {
	r, err := b.txn(worker, &pb.TxnRequest{
		Compare: modIs(key, revision),
		Success: []*pb.RequestOp{put(key, b.value())},
		Failure: orGet(key),
	})
	if err != nil {
		return 0, false, err
	}
	if r.Succeeded {
		return r.Header.Revision, true, nil
	}
	kv, err := found(r)
	if err != nil {
		return 0, false, err
	}
	if kv == nil {
		return 0, false, fmt.Errorf("Expected %s to be there, got nothing", key)
	}
	if kv.ModRevision == revision {
		return 0, false, fmt.Errorf("Expected the compare of %s at %d to succeed, got a failure", key, revision)
	}
	return kv.ModRevision, false, nil
}

// Updates one of the keys of the fill.
func (b *bench) update(worker, index int, t *tally) (bool, error) {
	revision, won, err := b.updateAt(worker, keyOf(index), b.modified[index].Load())
	if err != nil {
		return false, err
	}
	b.modified[index].Store(revision)
	if !won {
		t.conflicts++
	}
	return won, nil
}

func (b *bench) updateOfNext(worker int, t *tally) error {
	for {
		index := int(b.turn.Add(1)) % len(b.modified)
		if won, err := b.update(worker, index, t); won || err != nil {
			return err
		}
	}
}

func (b *bench) remember(c created) {
	b.lock.Lock()
	b.extra = append(b.extra, c)
	b.lock.Unlock()
}

// The oldest of the created keys.
func (b *bench) forget() (created, bool) {
	b.lock.Lock()
	defer b.lock.Unlock()
	if len(b.extra) == 0 {
		return created{}, false
	}
	c := b.extra[0]
	b.extra = b.extra[1:]
	return c, true
}

// As many keys as the server must have when nothing is under way.
func (b *bench) present() int {
	b.lock.Lock()
	defer b.lock.Unlock()
	return len(b.modified) + len(b.extra)
}
