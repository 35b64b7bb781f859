//! Which CPU a thread that becomes ready runs on.

/// Picks a CPU: the one the thread last ran on if that is idle, else any idle one, else the
/// current one, where the waker's data is warm.
///
/// `idle` has a bit for each idle CPU.
pub const fn choose_cpu(last: u32, current: u32, idle: u64) -> u32 {
    if last < 64 && idle & (1 << last) != 0 {
        last
    } else if idle != 0 {
        idle.trailing_zeros()
    } else {
        current
    }
}

#[cfg(test)]
mod tests {
    use super::choose_cpu;

    #[test]
    fn prefers_the_old_then_an_idle_then_the_current_cpu() {
        assert_eq!(choose_cpu(2, 0, 0b0110), 2);
        assert_eq!(choose_cpu(3, 0, 0b0110), 1);
        assert_eq!(choose_cpu(3, 1, 0), 1);
        assert_eq!(choose_cpu(u32::MAX, 1, 0), 1);
    }
}
