#include "runner/typing.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

/*
 * The line discipline holds 4,096 unread bytes. When they are used up it stops looking at what is behind
 * them, and a Ctrl-C there would wait for a program that does not read.
 */
enum { KERNEL_NEARLY_FULL = 2048 };

/* The other end, opened through the master itself: no path, and no file of the sandbox is looked up. */
static int open_peer(int master)
{
    return ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
}

static bool kernel_nearly_full(int master)
{
    _cleanup_close_ int peer = open_peer(master);
    int unread = 0;
    return peer >= 0 && ioctl(peer, FIONREAD, &unread) == 0 && unread >= KERNEL_NEARLY_FULL;
}

static bool may_be_special(struct rp_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c < 0x20 && c != '\r' && c != '\n' && c != '\t' && c != 0x1b) || c == 0x7f)
            return true;
    }
    return false;
}

size_t rp_typing_interrupt(int master, struct rp_str typed, bool queued)
{
    struct termios t;
    if (!may_be_special(typed) || tcgetattr(master, &t) < 0 || !(t.c_lflag & ISIG) || (t.c_lflag & NOFLSH))
        return SIZE_MAX;
    const cc_t characters[] = {t.c_cc[VINTR], t.c_cc[VQUIT], t.c_cc[VSUSP]};
    for (size_t i = typed.n; i-- > 0;) {
        for (size_t k = 0; k < RP_ARRAY_SIZE(characters); k++) {
            if (characters[k] == _POSIX_VDISABLE || (cc_t)typed.p[i] != characters[k])
                continue;
            /* bytes in front of it in this very message are in its way as much as queued ones */
            return queued || i >= KERNEL_NEARLY_FULL || kernel_nearly_full(master) ? i : SIZE_MAX;
        }
    }
    return SIZE_MAX;
}

void rp_typing_flush(int master)
{
    /* from the master: what is on its way to the line discipline; from the other end: what the line
     * discipline holds */
    tcflush(master, TCOFLUSH);
    _cleanup_close_ int peer = open_peer(master);
    if (peer >= 0)
        tcflush(peer, TCIFLUSH);
}
