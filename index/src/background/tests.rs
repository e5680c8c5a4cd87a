//! Tests of priorities, read back from the system.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[cfg(target_os = "linux")]
#[test]
fn threads_made_by_a_background_thread_give_way_too() {
    // The 19th field of /proc/.../stat is the nice value; the 2nd, in parentheses, may hold spaces.
    let nice = || {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        rest.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
    };
    let before = nice();
    let (own, made) = std::thread::spawn(move || {
        step_back(Urgency::Soon);
        (nice(), std::thread::spawn(nice).join().unwrap())
    })
    .join()
    .unwrap();
    assert!(own > before && own < 19, "nice {before} became {own}");
    assert_eq!(own, made);
    assert_eq!(nice(), before, "only that thread changed");
}
