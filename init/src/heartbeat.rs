//! Who hangs.
//!
//! Every turn of a server's loop raises a counter. A server that has nothing to do does not turn,
//! so one whose counter stands still is pinged first, and only if that does not move it in time
//! does it hang. A server that waits for an answer to its own call is not to blame: the one it
//! calls is watched too. On an overloaded machine time passes without anybody having run, so a
//! time-out also takes several looks.

use skink_manifest::service::Heartbeat;

use crate::MS;

/// Looks after a ping before a server can count as hung.
const LEAST_LOOKS: u32 = 3;
/// Looks during the time-out.
const LOOKS_PER_TIMEOUT: u64 = 4;

/// What is seen when a server is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Turns of its loop.
    pub beats: u64,
    /// Whether it waits for the answer to a call of its own.
    pub is_calling: bool,
}

/// What to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It turned since the last look.
    Alive,
    /// It answered a ping only after the time-out; it was waiting for others or not running.
    Late,
    /// It may be idle: ping it.
    Ping,
    /// It has been pinged; wait for it.
    Waiting,
    /// It hangs: end it.
    Hung,
}

/// Watches the heartbeat of one instance of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watcher {
    beats: u64,
    ping: Option<Ping>,
    next_look: u64,
}

/// A ping that was not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ping {
    sent: u64,
    /// Since when the server alone is to blame for the silence.
    silent_since: u64,
    looks: u32,
}

impl Watcher {
    /// Starts to watch an instance that was started at `now`.
    pub const fn new(settings: &Heartbeat, now: u64) -> Self {
        let next_look = look_after(settings, now, regular_wait(settings));
        Watcher {
            beats: 0,
            ping: None,
            next_look,
        }
    }

    /// Returns when to look next; `u64::MAX` for never.
    pub const fn next_look(&self) -> u64 {
        self.next_look
    }

    /// Judges what is seen at `now`.
    pub fn judge(&mut self, settings: &Heartbeat, look: Look, now: u64) -> Judgement {
        let timeout = u64::from(settings.timeout_ms) * MS;
        let judgement = if look.beats != self.beats {
            self.beats = look.beats;
            match self.ping.take() {
                Some(ping) if now.saturating_sub(ping.sent) > timeout => Judgement::Late,
                _ => Judgement::Alive,
            }
        } else if let Some(ping) = &mut self.ping {
            ping.looks += 1;
            if look.is_calling {
                ping.silent_since = now;
                ping.looks = 0;
            }
            let is_over = now.saturating_sub(ping.silent_since) >= timeout;
            if is_over && ping.looks >= LEAST_LOOKS {
                Judgement::Hung
            } else {
                Judgement::Waiting
            }
        } else {
            self.ping = Some(Ping {
                sent: now,
                silent_since: now,
                looks: 0,
            });
            Judgement::Ping
        };
        let wait_ns = if self.ping.is_some() {
            pinged_wait(settings)
        } else {
            regular_wait(settings)
        };
        self.next_look = look_after(settings, now, wait_ns);
        judgement
    }
}

/// Returns the time between looks at a server that turns, ns.
const fn regular_wait(settings: &Heartbeat) -> u64 {
    settings.period_ms as u64 * MS
}

/// Returns the time between looks at a server that was pinged, ns. At least 1 ms, so that a tiny
/// time-out does not keep `init` spinning.
const fn pinged_wait(settings: &Heartbeat) -> u64 {
    let part = settings.timeout_ms as u64 * MS / LOOKS_PER_TIMEOUT;
    if part < MS { MS } else { part }
}

/// Returns when to look after `wait_ns`; never at a server without a period.
const fn look_after(settings: &Heartbeat, now: u64, wait_ns: u64) -> u64 {
    if settings.period_ms == 0 {
        u64::MAX
    } else {
        now.saturating_add(wait_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Heartbeat = Heartbeat {
        period_ms: 1_000,
        timeout_ms: 2_000,
    };

    /// Looks whenever it is time to, until `end_ms`; `seen` says what is seen at a time in ms.
    fn watch(end_ms: u64, seen: impl Fn(u64, bool) -> Look) -> Vec<(u64, Judgement)> {
        let mut watcher = Watcher::new(&SETTINGS, 0);
        let mut is_pinged = false;
        let mut found = Vec::new();
        while watcher.next_look() <= end_ms * MS {
            let now = watcher.next_look();
            let judgement = watcher.judge(&SETTINGS, seen(now / MS, is_pinged), now);
            is_pinged = matches!(judgement, Judgement::Ping | Judgement::Waiting);
            found.push((now / MS, judgement));
            if judgement == Judgement::Hung {
                break;
            }
        }
        found
    }

    #[test]
    fn a_busy_server_is_never_pinged() {
        let found = watch(20_000, |now, _| Look {
            beats: now,
            is_calling: false,
        });
        assert!(
            found
                .iter()
                .all(|(_, judgement)| *judgement == Judgement::Alive)
        );
        assert_eq!(found.len(), 20);
    }

    #[test]
    fn an_idle_server_answers_its_ping() {
        // It turns only when pinged.
        let mut watcher = Watcher::new(&SETTINGS, 0);
        let mut beats = 0;
        for _ in 0..50 {
            let now = watcher.next_look();
            match watcher.judge(
                &SETTINGS,
                Look {
                    beats,
                    is_calling: false,
                },
                now,
            ) {
                Judgement::Ping => beats += 1,
                Judgement::Alive => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(beats > 10);
    }

    #[test]
    fn a_silent_server_hangs_after_the_time_out() {
        let found = watch(20_000, |_, _| Look {
            beats: 0,
            is_calling: false,
        });
        assert_eq!(found[0], (1_000, Judgement::Ping));
        assert_eq!(*found.last().unwrap(), (3_000, Judgement::Hung));
    }

    #[test]
    fn a_server_that_waits_for_others_does_not_hang_until_they_answered() {
        let found = watch(20_000, |now, _| Look {
            beats: 0,
            is_calling: now < 9_000,
        });
        let (at, last) = *found.last().unwrap();
        assert_eq!(last, Judgement::Hung);
        assert!(at >= 10_500, "{at}");
        let found = watch(20_000, |now, _| Look {
            beats: u64::from(now > 9_000),
            is_calling: now <= 9_000,
        });
        assert!(
            found
                .iter()
                .any(|(_, judgement)| *judgement == Judgement::Late)
        );
    }

    #[test]
    fn time_that_passed_without_looks_does_not_count() {
        let mut watcher = Watcher::new(&SETTINGS, 0);
        let silent = Look {
            beats: 0,
            is_calling: false,
        };
        assert_eq!(
            watcher.judge(&SETTINGS, silent, 1_000 * MS),
            Judgement::Ping
        );
        // Nobody ran for a minute.
        assert_eq!(
            watcher.judge(&SETTINGS, silent, 61_000 * MS),
            Judgement::Waiting
        );
    }

    #[test]
    fn period_zero_means_never() {
        let settings = Heartbeat {
            period_ms: 0,
            timeout_ms: 0,
        };
        assert_eq!(Watcher::new(&settings, 5).next_look(), u64::MAX);
    }
}
