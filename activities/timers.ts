/**
 * A durable timer counts from when the server has taken it, up to a second after it was asked for when the server is busy.
 * So it is set to fire this much early, and the activity that it starts waits for the exact time.
 */
export const TIMER_LEAD_MS = 500

/**
 * Waits up to here stay in the activity: the server looks for due timers a second ahead, so a timer of less than a second
 * may fire only with the next look.
 */
export const WAIT_HERE_MS = 700
