//! A configuration as the binary reads it. What may be in it is tested beside the code.

use crate::support::{Place, Ran, hotseat, run, run_on};

fn with_environment(args: &[&str], environment: &[(&str, &str)]) -> Ran {
    Ran::of(hotseat().args(args).envs(environment.iter().copied()).output().unwrap())
}

#[test]
fn the_shipped_file_changes_nothing() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster.toml");
    let said = run(&["check-config", "--config", file]).success();
    assert_eq!(said, "The configuration is valid: every setting is at its default.\n");
}

#[test]
fn what_changed_is_told_with_its_source() {
    let place = Place::new();
    let file = place.file("c.toml", "[hold]\nttl = \"2m\"\n[paying]\nttl = \"3m\"\n");
    let environment =
        [("HOTSEAT_HOLD_TTL", "90s"), ("HOTSEAT_AUTH_SECRET", "0123456789abcdef0123456789abcdef")];
    let said = with_environment(&["check-config", "--config", &file, "--data", "/d"], &environment).success();
    assert_eq!(
        said,
        format!(
            "auth.secret = (kept secret)  (environment variable HOTSEAT_AUTH_SECRET)\n\
             hold.ttl = \"90s\"  (environment variable HOTSEAT_HOLD_TTL)\n\
             node.data = \"/d\"  (flag --data)\n\
             paying.ttl = \"3m\"  ({file})\n\
             The configuration is valid: 4 settings are not at their defaults.\n"
        )
    );
}

#[test]
fn every_command_refuses_a_wrong_configuration_with_2() {
    let place = Place::new();
    let file = place.file("wrong.toml", "[hold]\nttl = 300\n");
    let plan = place.file("plan.json", "{}");
    let import = ["import", &plan, "--concert", "C", "--at", "2027-05-01T19:00:00Z"];
    let commands: [&[&str]; 12] = [
        &["serve"],
        &["migrate"],
        &import,
        &["audit"],
        &["resync", "--option", "1"],
        &["shards", "list"],
        &["shards", "move", "17", "--to", "hotseat-2"],
        &["shards", "rebalance"],
        &["nodes", "list"],
        &["nodes", "drain", "hotseat-2"],
        &["check-config"],
        &["token", "--user", "7", "--role", "USER"],
    ];
    for command in commands {
        let mut args = command.to_vec();
        args.extend(["--config", &file]);
        let said = run_on(&place.data, &args).failure(2);
        assert_eq!(
            said,
            format!(
                "hotseat: {file}: hold.ttl: expected a duration with a unit (ms, s, m or h) of at most 365 days, \
                 such as \"30s\" or \"1500ms\", found the number 300\n"
            ),
            "{command:?}"
        );
        assert!(!place.data.exists(), "{command:?} touched the data directory");
    }
}

#[test]
fn a_variable_that_means_nothing_is_refused() {
    let said = with_environment(&["check-config"], &[("HOTSEAT_SHARDS", "8")]).failure(2);
    assert_eq!(
        said,
        "hotseat: environment variable HOTSEAT_SHARDS: there is no such setting; \
         did you mean HOTSEAT_CLUSTER_SHARDS?\n"
    );
}

#[test]
fn what_everybody_knows_is_not_shown_to_the_world() {
    let place = Place::new();
    for args in [
        &["serve", "--demo", "--listen", "0.0.0.0:0"] as &[&str],
        &["serve", "--demo", "--ops-listen", "[::]:0"],
    ] {
        let said = run_on(&place.data, args).failure(2);
        assert!(said.starts_with("hotseat: auth.dev_tokens hands a token"), "{said}");
    }
    let secret = [("HOTSEAT_AUTH_SECRET", "hotseat built-in secret, for loopback only")];
    let said = with_environment(&["serve", "--listen", "0.0.0.0:0"], &secret).failure(2);
    assert!(said.starts_with("hotseat: auth.secret is the one built in"), "{said}");
    let said = with_environment(&["check-config"], &[("HOTSEAT_SALES_CONFIRM_ROLE", "USER")]).failure(2);
    assert!(said.starts_with("hotseat: sales.confirm_role = USER"), "{said}");
    assert!(!place.data.exists());
}

#[test]
fn a_public_key_is_read_before_anything_starts() {
    let place = Place::new();
    let pem = place.file("issuer.pem", "no key\n");
    let said = with_environment(&["check-config"], &[("HOTSEAT_AUTH_PUBLIC_KEY", &pem)]).failure(2);
    assert!(said.contains("auth.public_key") && said.contains(&pem), "{said}");
    let said = with_environment(&["check-config"], &[("HOTSEAT_AUTH_PUBLIC_KEY", "/nowhere.pem")]).failure(2);
    assert!(said.contains("auth.public_key") && said.contains("/nowhere.pem"), "{said}");
}
