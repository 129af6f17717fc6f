//! `hotseat draw`: the check of a presale's draw, from what was published and nothing else.

use std::io::{Read as _, Write};
use std::path::Path;

use actors::gates::draws::sha256;
use anyhow::Context as _;
use engine::gate::draw::{Fault, Tree, Trust, is_included, leaf, verify};
use jiff::Timestamp;

use self::record::{DrawnRecord, Entry, FrozenRecord, Record, Wrong, wrong};
use super::Failure;
use super::args::{DrawCommand, DrawVerifyArgs};
use super::server;
use crate::http::hex;

mod record;

pub(super) async fn run(command: &DrawCommand) -> Result<(), Failure> {
    let DrawCommand::Verify(args) = command;
    let record = read(&args.record).await?;
    let record = Record::read(&record).with_context(|| args.record.clone())?;
    let entry = args.entry.as_deref().map(read_entry).transpose()?;
    let out = &mut std::io::stdout().lock();
    let checked = check(&record, out).with_context(|| args.record.clone());
    if let (Ok(_), Some(entry)) = (&checked, &entry) {
        let place = check_entry(&record, entry).with_context(|| source(args))?;
        print_entry(out, &record, entry, place)?;
    }
    let Some(trust) = checked? else {
        return Err(anyhow::anyhow!("nothing is drawn yet: check again when the record says DRAWN").into());
    };
    print_trust(out, &record, trust)?;
    Ok(())
}

fn source(args: &DrawVerifyArgs) -> String {
    args.entry.as_ref().map_or_else(String::new, |path| path.display().to_string())
}

async fn read(source: &str) -> Result<Vec<u8>, Failure> {
    if source.starts_with("http://") {
        return Ok(server::fetch(source).await?.into());
    }
    if source.starts_with("https://") {
        let hint = "save it to a file first, as with `curl -o draw.json URL`";
        return Err(Failure::Config(format!("{source}: only http is spoken here; {hint}")));
    }
    if source == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("standard input")?;
        return Ok(bytes);
    }
    Ok(std::fs::read(source).with_context(|| source.to_owned())?)
}

fn read_entry(path: &Path) -> anyhow::Result<Entry> {
    let name = || path.display().to_string();
    Entry::read(&std::fs::read(path).with_context(name)?).with_context(name)
}

/// Checks as much as there is, and prints what held; `None` before the draw.
fn check(record: &Record, out: &mut impl Write) -> anyhow::Result<Option<Trust>> {
    let Record { concert, no, commitment, committed_at, .. } = record;
    writeln!(out, "draw        {no} of concert {concert}")?;
    writeln!(out, "commitment  {}, {}", hex(commitment), at(*committed_at))?;
    let Some(frozen) = &record.frozen else { return Ok(None) };
    check_frozen(record, frozen)?;
    writeln!(out, "root        {}, {}", hex(&frozen.root), at(frozen.published_at))?;
    writeln!(out, "entrants    {}: the root is theirs", frozen.leaves.len())?;
    let (Some(complete), Some(drawn)) = (record.complete(), &record.drawn) else { return Ok(None) };
    let trust = verify(sha256, &complete).map_err(fault)?;
    check_drawn(frozen, drawn, trust)?;
    writeln!(out, "seed        {}: the commitment is to it", hex(&drawn.seed))?;
    match (frozen.round, drawn.beacon) {
        (Some((round, due)), Some(value)) => {
            writeln!(out, "beacon      {} in round {round}, due {}: after the root", hex(&value), at(due))?;
        }
        (Some((round, _)), None) => writeln!(out, "beacon      round {round} was named, and given up")?,
        (None, _) => writeln!(out, "beacon      none")?,
    }
    writeln!(out, "order       recomputed, and the same")?;
    Ok(Some(trust))
}

/// What can be said before the draw already.
fn check_frozen(record: &Record, frozen: &FrozenRecord) -> Result<(), Wrong> {
    if record.committed_at > frozen.published_at {
        return Err(wrong(
            "committedAt",
            "is after the root was published: the seed could have been chosen for it",
        ));
    }
    if Tree::new(sha256, frozen.leaves.clone()).root() != frozen.root {
        return Err(fault(Fault::Root));
    }
    match frozen.round {
        Some((_, due)) if due <= frozen.published_at => Err(fault(Fault::BeaconEarly)),
        _ => Ok(()),
    }
}

/// What the record says beside what the order follows from.
fn check_drawn(frozen: &FrozenRecord, drawn: &DrawnRecord, trust: Trust) -> Result<(), Wrong> {
    match (frozen.round, drawn.beacon) {
        (None, Some(_)) => {
            return Err(wrong("beacon", "there is a value, but no round was named with the root"));
        }
        (Some((_, due)), Some(_)) if drawn.at < due => {
            return Err(wrong("drawnAt", "is before the round was due: the value cannot be the beacon's"));
        }
        _ => {}
    }
    if drawn.trust != trust.name() {
        return Err(wrong("trust", format!("says {:?}, but the draw is {}", drawn.trust, trust.name())));
    }
    Ok(())
}

fn fault(fault: Fault) -> Wrong {
    match fault {
        Fault::Seed => wrong("seed", "is not the one that `commitment` promised for this concert"),
        Fault::Root => wrong("root", "is not that of `leaves`"),
        Fault::BeaconEarly => {
            wrong("round.dueAt", "is not after the root was published: the value could have been known")
        }
        Fault::Order => wrong("order", "is not what follows from `seed`, `root`, `round` and `beacon`"),
    }
}

/// That an entry is in the record; at which place it was drawn, if that is known.
fn check_entry(record: &Record, entry: &Entry) -> Result<Option<u32>, Wrong> {
    if (entry.concert, entry.no) != (record.concert, record.no) {
        let what = format!("draw {} of concert {}, but the record is of another", entry.no, entry.concert);
        return Err(wrong("concertId", what));
    }
    let Some(frozen) = &record.frozen else {
        return Err(wrong("root", "the record has none yet"));
    };
    if leaf(sha256, entry.concert, entry.turn, entry.user, &entry.salt) != entry.leaf {
        return Err(wrong("leaf", "is not that of `concertId`, `turn`, `userId` and `salt`"));
    }
    if entry.root != frozen.root {
        return Err(wrong("root", "is not the record's"));
    }
    if frozen.leaves.get(entry.index as usize) != Some(&entry.leaf) {
        return Err(wrong("index", "the record has another leaf there"));
    }
    let size = frozen.leaves.len() as u64;
    if !is_included(sha256, &frozen.root, &entry.leaf, u64::from(entry.index), size, &entry.proof) {
        return Err(wrong("proof", "does not lead from the leaf to the root"));
    }
    let Some(drawn) = &record.drawn else { return Ok(None) };
    let place = (1..).zip(&drawn.order).find(|(_, index)| **index == entry.index).map(|(place, _)| place);
    match (entry.place, place) {
        (Some(said), Some(found)) if said != found => {
            Err(wrong("place", format!("says {said}, but the order has it at {found}")))
        }
        _ => Ok(place),
    }
}

fn print_entry(
    out: &mut impl Write,
    record: &Record,
    entry: &Entry,
    place: Option<u32>,
) -> std::io::Result<()> {
    let Entry { user, turn, index, .. } = entry;
    writeln!(out, "entry       user {user}, turn {turn}: leaf {index}, and the proof leads to the root")?;
    if let (Some(place), Some(drawn)) = (place, &record.drawn) {
        writeln!(out, "place       {place} of {}", drawn.order.len())?;
    }
    Ok(())
}

/// On what it rests, and what only others can say.
fn print_trust(out: &mut impl Write, record: &Record, trust: Trust) -> std::io::Result<()> {
    writeln!(out, "\ntrust: {}", trust.name())?;
    if let Some(before) = record.no.checked_sub(1).filter(|before| *before > 0) {
        writeln!(
            out,
            "It is the concert's draw {}: see what became of those before, with ?no={before}.",
            record.no
        )?;
    }
    match (trust, &record.frozen, &record.drawn) {
        (Trust::Beacon, Some(FrozenRecord { round: Some((round, _)), .. }), Some(drawn)) => {
            let value = hex(&drawn.beacon.unwrap_or_default());
            writeln!(
                out,
                "Ask somebody who kept the record of then whether commitment and root were out when it says."
            )?;
            writeln!(out, "It has it that round {round} said")?;
            writeln!(out, "  {value}")?;
            writeln!(out, "(with drand: `randomness` of https://api.drand.sh/CHAIN/public/{round}).")?;
            writeln!(out, "Compare that with the beacon's own page: no server has done it.")?;
        }
        (_, Some(FrozenRecord { round: Some((round, _)), .. }), _) => {
            writeln!(
                out,
                "Round {round} was named and given up: the operator may have known its value by then, and"
            )?;
            writeln!(
                out,
                "have taken the order without it for the better one. Look up at the beacon's own page whether"
            )?;
            writeln!(out, "the round was out when it was drawn.")?;
        }
        _ => writeln!(out, "No beacon took part: the operator could have tried rosters until one pleased.")?,
    }
    Ok(())
}

fn at(time: engine::Time) -> String {
    Timestamp::from_microsecond(time.0).map_or_else(|_| time.to_string(), |instant| instant.to_string())
}
