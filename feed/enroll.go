package feed

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"time"
)

// enroll answers one request on selvage-join/1.
func (s *Server) enroll(ctx context.Context, conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if err := conn.SetDeadline(time.Now().Add(joinTimeout)); err != nil {
		return err
	}
	reply, err := s.issue(ctx, conn)
	if err != nil {
		return tell(conn, err)
	}
	body, err := json.Marshal(reply)
	if err != nil {
		return err
	}
	if err := writeFrame(conn, frameJoined, body); err != nil {
		return err
	}
	s.log.Info("node certificate issued", "node", reply.NodeID, "addr", addrOf(conn))
	return conn.CloseWrite()
}

func (s *Server) issue(ctx context.Context, conn *tls.Conn) (JoinReply, error) {
	kind, body, err := readFrame(conn, nil, maxJoinBytes)
	if err != nil {
		return JoinReply{}, err
	}
	var req JoinRequest
	if kind != frameJoin {
		return JoinReply{}, Refuse(ReasonMalformed, "frame of type %d, want a join request", kind)
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return JoinReply{}, Refuse(ReasonMalformed, "join request: %v", err)
	}
	if s.cfg.Enroll == nil {
		return JoinReply{}, Refuse(ReasonRequest, "nodes do not join here")
	}
	if len(conn.ConnectionState().PeerCertificates) > 0 {
		peer, err := PeerOf(conn.ConnectionState())
		if err != nil {
			return JoinReply{}, Refuse(ReasonUnknown, "%v", err)
		}
		if peer.Control {
			return JoinReply{}, Refuse(ReasonRequest, "the control plane's certificate is not renewed here")
		}
		if err := s.known(ctx, peer.Node); err != nil {
			return JoinReply{}, err
		}
		req.Renew, req.Secret = peer.Node, nil
	}
	return s.cfg.Enroll(ctx, req)
}

// tell sends err as a refusal and returns it.
func tell(conn *tls.Conn, err error) error {
	_ = writeFrame(conn, frameError, refusalOf(err).append(nil))
	_ = conn.CloseWrite()
	return err
}
