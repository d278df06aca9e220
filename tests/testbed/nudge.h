/*
 * nudge: has each CPU of the testbed send its neighbour an interrupt every few milliseconds.
 *
 * QEMU 10.0's TCG loses interrupts of a machine that runs nested guests: at a VMRUN it changes a bit of the
 * CPU's interrupt_request without a lock, while another thread may just have set the bit of a pending
 * interrupt there. A CPU whose one-shot timer is lost in that way never leaves its guest again, and the
 * machine hangs. Any later interrupt has QEMU look at all that are pending, so one from another CPU heals it.
 */
#ifndef HUSK_TESTBED_NUDGE_H
#define HUSK_TESTBED_NUDGE_H

/* Starts the nudging, in a process of its own. Without a second CPU it does nothing: there the timer ticks
 * periodically (run). */
void nudge_start(void);

#endif
