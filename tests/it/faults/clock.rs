//! Clocks that jump: ours set back and forward before and after a token is issued, and a workspace
//! whose clock is some minutes off. Never a credential that our clock and the entry show to be dead,
//! and never one that is dead in truth where any clock could have shown it.

use super::{Class, holds, times};
use crate::support::{Dice, HOUR, MINUTE, SECOND, Test, workspace};

const DAY: i64 = 24 * HOUR;

/// The seconds at which a JWT says that it was issued and ends.
fn claims(token: &str) -> (i64, i64) {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap())
}

#[test]
fn no_jump_brings_a_dead_credential_back() {
    let jumps = [0, SECOND, 30 * SECOND, 3 * MINUTE, 50 * MINUTE, HOUR, 2 * HOUR, DAY];
    let jumps: Vec<i64> = jumps.into_iter().flat_map(|jump| [jump, -jump]).collect();
    let offs = [0, 3 * MINUTE, -3 * MINUTE];
    let lives = [3600, 900, 120];
    let mut class = Class::new("clock: jumps");
    let mut dice = Dice(4);
    // Before and after the issue, and the time that really passes between the two calls.
    for _ in 0..times(150, 4_000) {
        let (before, after) = (dice.pick(&jumps), dice.pick(&jumps));
        let passed = dice.pick(&[0, 10 * SECOND, 20 * MINUTE, 45 * MINUTE, 59 * MINUTE, 3 * HOUR]);
        let (off, life) = (dice.pick(&offs), dice.pick(&lives));
        let workspace = workspace();
        {
            let mut state = workspace.state();
            (state.credential_life, state.token_life) = (life, life);
            state.skew = off / 1000;
        }
        let test = Test::at(&workspace);
        test.set_clock(before);
        let received = test.now();
        let first = test.run("");
        test.pass(passed);
        // What jumps is our clock alone.
        test.set_clock(after);
        let second = test.run("");
        let now = test.now();
        let what =
            format!("{before} ms, {passed} ms pass, {after} ms, off {off} ms, life {life} s");
        for outcome in [&first, &second] {
            let refused = outcome.code == 1 && outcome.stderr.contains("has already expired");
            let printed =
                outcome.code == 0 && workspace.signer.has_signed(outcome.stdout.trim_end());
            class.tried(&what, holds(refused || printed, || format!("{outcome:?}")));
        }
        if second.code != 0 {
            continue;
        }
        let (issued, ends) = claims(second.stdout.trim_end());
        let shown = if second.stdout == first.stdout {
            // Its end by our clock, as far as anything says so.
            let end = (ends * 1000).min(received.0 + life * 1000);
            holds(now.0 < end, || "the entry shows that it is dead".to_owned())
                .and(holds(received.0 <= now.0 + MINUTE, || "it is from the future".to_owned()))
        } else {
            holds(now.0 < ends * 1000, || "it was dead when it came".to_owned())
        };
        class.tried(&what, shown);
        // Where our clock did not jump between the two, it is alive in truth, which the workspace has.
        if after == 0 {
            let truth = crate::sandbox::jwt::now() + (passed + off) / 1000;
            class.tried(
                &what,
                holds((issued..ends).contains(&truth), || "dead in truth".to_owned()),
            );
        }
    }
    class.end();
}
