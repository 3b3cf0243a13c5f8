//! Clocks that are wrong: ours jumps back or forward before or after a token is issued, and the
//! workspace's differs by some minutes. The program never prints a credential that has expired by
//! our clock and its cache entry, or in truth, if any clock could have shown that.

use super::{BOTH, Class, holds, times};
use crate::sandbox::jwt::claims;
use crate::sandbox::request_rules::Judged;
use crate::support::{Dice, HOUR, MINUTE, SECOND, Test, workspace};

const DAY: i64 = 24 * HOUR;

/// When a JWT says that it was issued and expires, in seconds.
fn times_of(token: &str) -> (i64, i64) {
    let claims = claims(token);
    (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap())
}

#[test]
fn no_jump_of_the_clock_makes_an_expired_credential_valid() {
    let jumps = [0, SECOND, 30 * SECOND, 3 * MINUTE, 50 * MINUTE, HOUR, 2 * HOUR, DAY];
    let jumps: Vec<i64> = jumps.into_iter().flat_map(|jump| [jump, -jump]).collect();
    let skews = [0, 3 * MINUTE, -3 * MINUTE];
    let lives = [3600, 900, 120];
    let mut class = Class::new("clock: jumps", BOTH);
    let mut dice = Dice::seeded(4);

    // A jump before and one after the token is issued, and the time that really passes between.
    for _ in 0..times(150, 4_000) {
        let before = dice.pick(&jumps);
        let after = dice.pick(&jumps);
        let passed = dice.pick(&[0, 10 * SECOND, 20 * MINUTE, 45 * MINUTE, 59 * MINUTE, 3 * HOUR]);
        let skew = dice.pick(&skews);
        let life = dice.pick(&lives);

        let workspace = workspace();
        {
            let mut state = workspace.state();
            state.credential_life = life;
            state.token_life = life;
            state.skew = skew / 1000;
            state.judged = Judged::AllButExpiry;
        }
        let test = Test::at(&workspace);
        test.set_clock(before);
        let received = test.now();
        let first = test.run("");
        test.pass(passed);
        // Only our clock jumps, not the workspace's.
        test.set_clock(after);
        let second = test.run("");
        let now = test.now();

        let what =
            format!("{before} ms, {passed} ms pass, {after} ms, skew {skew} ms, life {life} s");
        for outcome in [&first, &second] {
            let refused = outcome.code == 1 && outcome.stderr.contains("has already expired");
            let printed =
                outcome.code == 0 && workspace.signer.has_signed(outcome.stdout.trim_end());
            class.tried(&what, holds(refused || printed, || format!("{outcome:?}")));
            class.ended(printed);
        }
        if second.code != 0 {
            continue;
        }

        let (issued, expires) = times_of(second.stdout.trim_end());
        let valid_by_our_clock = if second.stdout == first.stdout {
            // The expiry by our clock: the stated one or that by the lifetime.
            let expires = (expires * 1000).min(received.0 + life * 1000);
            holds(now.0 < expires, || "expired by its cache entry".to_owned())
                .and(holds(received.0 <= now.0 + MINUTE, || "it is from the future".to_owned()))
        } else {
            holds(now.0 < expires * 1000, || "expired when it was received".to_owned())
        };
        class.tried(&what, valid_by_our_clock);

        // If our clock did not jump between the calls, it is also valid by the workspace's clock.
        if after == 0 {
            let now_there = crate::sandbox::jwt::now() + (passed + skew) / 1000;
            let is_valid = (issued..expires).contains(&now_there);
            class.tried(&what, holds(is_valid, || "expired by the workspace's clock".to_owned()));
        }
    }
    class.end();
}
