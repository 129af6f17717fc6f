//! `hotseat serve`.

use std::io::Write as _;
use std::time::Duration;

use engine::{SeatNo, SeatState};

use super::Failure;
use super::args::ServeArgs;
use crate::app::App;
use crate::config::load;
use crate::http::auth::Role;
use crate::shutdown::Signals;
use crate::telemetry;

/// How long the token that the demo prints is good for.
const DEMO_TOKEN_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);

pub(super) async fn run(args: &ServeArgs) -> Result<(), Failure> {
    let config = load(&args.flags())?.config;
    telemetry::init(&config.log)?;
    let mut signals = Signals::catch()?;
    let app = tokio::select! {
        app = App::start(&config, args.demo) => app?,
        signal = signals.next() => {
            tracing::info!(signal, "ended before it had started");
            return Ok(());
        }
    };
    let signal = tokio::select! {
        signal = signals.next() => signal,
        never = guide(&app, args.demo) => never?,
    };
    tracing::info!(signal, grace = ?config.shutdown.grace, "shutting down");
    signals.end_at_once();
    app.end(config.shutdown.grace).await;
    Ok(())
}

/// Says where the server is once it is ready, and then nothing for ever.
async fn guide(app: &App, demo: bool) -> anyhow::Result<&'static str> {
    app.ready().await;
    let text = if demo { demo_guide(app)? } else { addresses(app) };
    let mut out = std::io::stdout();
    // A closed standard output must not end the sale.
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!(%error, "standard output");
    }
    std::future::pending().await
}

fn addresses(app: &App) -> String {
    format!(
        "\nhotseat is ready.\n\n  API      {api}/api/v1/concerts\n  Docs     {api}/api/v1/docs\n  \
         Ops      {ops}/readyz\n\n",
        api = app.public_url,
        ops = app.ops_url
    )
}

/// Commands that work as printed, with curl and a POSIX shell.
fn demo_guide(app: &App) -> anyhow::Result<String> {
    let mut text = addresses(app);
    let Some((option, title, seats)) = free_pair(app) else {
        text.push_str("Everything is sold: start with another --data directory.\n\n");
        return Ok(text);
    };
    // A new buyer each time: one buyer may have only so many reservations.
    let user = 1_000 + u64::from(uuid::Uuid::new_v4().as_fields().0 % 1_000_000);
    let (token, _) = app.tokens.issue(user, Role::User, None, DEMO_TOKEN_TTL)?;
    let api = format!("{}/api/v1", app.public_url);
    let auth = format!("-H 'Authorization: Bearer {token}'");
    let json = "-H 'Content-Type: application/json'";
    let key = "-H \"Idempotency-Key: $(date +%s%N)\"";
    let newest = format!(
        "$(curl -s {auth} {api}/reservations | grep -o '\"reservationId\":\"[^\"]*\"' | head -n 1 | cut -d '\"' -f 4)"
    );
    let [a, b] = seats;
    text.push_str(&format!(
        "A token for user {user}:\n\n{token}\n\n\
         Buy seats {a} and {b} of {title:?}, line by line: see the seats, select, hold, confirm.\n\n\
         curl -s {api}/options/{option}/seats; echo\n\n\
         curl -s {auth} {json} -d '{{\"seats\":[{a},{b}]}}' {api}/options/{option}/selections; echo\n\n\
         curl -s {auth} {json} {key} -d '{{\"seats\":[{a},{b}]}}' {api}/options/{option}/holds; echo\n\n\
         curl -s -X POST {auth} {key} \"{api}/reservations/{newest}/confirm\"; echo\n\n"
    ));
    Ok(text)
}

/// Two free neighbours of the smallest option that has some.
fn free_pair(app: &App) -> Option<(u32, String, [u32; 2])> {
    let mut options: Vec<_> = app
        .directory
        .concerts()
        .iter()
        .flat_map(|concert| app.directory.options_of(concert.concert))
        .collect();
    options.sort_by_key(|entry| (entry.seat_count(), entry.option));
    options.iter().find_map(|entry| {
        let snapshot = app.handle().snapshot(entry.option)?;
        let free = |seat: u32| snapshot.state(seat as usize) == SeatState::Available;
        let seat = (0..entry.seat_count().saturating_sub(1)).find(|seat| free(*seat) && free(seat + 1))?;
        let title = app.directory.concert(entry.concert)?.title.clone();
        Some((entry.option.0, title, [SeatNo(seat).0, seat + 1]))
    })
}
