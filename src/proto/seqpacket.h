/*
 * seqpacket.h: one message, at most one descriptor, over a SOCK_SEQPACKET socket (unix(7)).
 *
 * Non-blocking, with MSG_DONTWAIT|MSG_NOSIGNAL|MSG_CMSG_CLOEXEC. Any thread; a socket has one reader and one
 * writer. Links without libc beyond the system calls, since init uses it.
 */
#ifndef RP_PROTO_SEQPACKET_H
#define RP_PROTO_SEQPACKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Sends n bytes and, unless fd is -1, a duplicate of fd. 0, or a negative errno (-EAGAIN when the queue is
 * full). */
int rp_seqpacket_send(int socket, const void *message, size_t n, int fd);

/*
 * Receives one message. Returns its length; 0 at the end of the stream; a negative errno: -EAGAIN when
 * nothing is there, -EPROTO when the message was cut, empty, or carried more than one descriptor (all of them
 * are closed). *ret_fd is the descriptor, close-on-exec and owned by the caller, or -1.
 */
ssize_t rp_seqpacket_receive(int socket, void *message, size_t cap, int *ret_fd);

#endif
