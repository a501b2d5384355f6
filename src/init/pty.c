/* Pseudoterminals (pty(7)), made inside the sandbox; only the master is kept. */
#include <errno.h>
#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "init/init.h"

int rp_init_pty_resize(int master, uint16_t cols, uint16_t rows)
{
    struct winsize size = {.ws_col = cols, .ws_row = rows};
    return ioctl(master, TIOCSWINSZ, &size) < 0 ? errno : 0;
}

int rp_init_pty_open(uint16_t cols, uint16_t rows, int *ret_master, int *ret_slave)
{
    /* devpts gives the slave to the fsuid of whoever opens the multiplexer: the user must own its terminal,
     * and we have no CAP_CHOWN. */
    setfsuid(RP_INIT_USER_UID);
    _cleanup_close_ int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    int errnum = errno;
    setfsuid(0);
    if (master < 0)
        return errnum;
    int unlock = 0;
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return errno;
    _cleanup_close_ int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return errno;
    struct termios mode;
    if (tcgetattr(slave, &mode) < 0)
        return errno;
    mode.c_iflag |= IUTF8; /* so that erase removes a character, not a byte */
    if (tcsetattr(slave, TCSANOW, &mode) < 0)
        return errno;
    errnum = rp_init_pty_resize(master, cols ?: 80, rows ?: 24);
    if (errnum)
        return errnum;
    *ret_master = RP_STEAL_FD(master);
    *ret_slave = RP_STEAL_FD(slave);
    return 0;
}
