//! Where settings come from. The only place in the program that reads the environment.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Num, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::Config;
use super::check::check;
use super::error::{ConfigError, Problems, nearest};
use super::text;

const PREFIX: &str = "HOTSEAT_";

/// What is not shown.
const SECRETS: [&str; 2] = ["auth.secret", "gate.keys"];

/// What the command line says about the configuration. It has the last word.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub data: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub ops_listen: Option<SocketAddr>,
    /// Dev tokens on, and buyers may confirm.
    pub demo: bool,
}

/// A valid configuration, and what in it is not the default.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub changed: Vec<Changed>,
}

/// A setting that is not at its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// `section.key`.
    pub key: String,
    /// As TOML; secrets are not shown.
    pub value: String,
    /// Who said so.
    pub source: String,
}

/// Reads every layer and checks the result.
///
/// # Errors
/// Every unknown key, or the first value of a wrong type, or every value that may not be.
pub fn load(flags: &Flags) -> Result<Loaded, Problems> {
    load_from(flags, std::env::vars_os())
}

/// [`load`] with the environment as an argument.
pub(super) fn load_from(
    flags: &Flags,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Problems> {
    let keys = keys();
    let mut layers = Vec::new();
    if let Some(path) = &flags.config {
        layers.push(file(path, &keys)?);
    }
    layers.extend(variables(environment, &keys)?);
    layers.extend(command_line(flags));

    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    for layer in &layers {
        figment = figment.merge(layer);
    }
    let source = |key: &str| -> String {
        let said = layers.iter().rev().find(|layer| layer.get(key).is_some());
        said.map_or_else(|| "default".to_owned(), |layer| layer.source.clone())
    };
    let config: Config = figment.extract().map_err(|error| wrong_type(&error, &source))?;
    let problems = check(&config, &source);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let changed = changed(&config, &source);
    Ok(Loaded { config, changed })
}

/// One source and what it says.
struct Layer {
    source: String,
    dict: Dict,
}

impl Layer {
    fn one(source: String, key: &str, value: Value) -> Self {
        let (section, name) = key.split_once('.').expect("keys are section.key");
        let inner = Dict::from([(name.to_owned(), value)]);
        Self { source, dict: Dict::from([(section.to_owned(), Value::Dict(Tag::Default, inner))]) }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let (section, name) = key.split_once('.')?;
        self.dict.get(section)?.as_dict()?.get(name)
    }
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// Every `section.key` with its default.
pub(super) fn keys() -> Vec<(String, Value)> {
    flatten(&Config::default())
}

fn flatten(config: &Config) -> Vec<(String, Value)> {
    let value = Value::serialize(config).expect("the configuration is made of strings, numbers and booleans");
    let sections = value.into_dict().expect("the configuration is a table of sections");
    let mut keys = Vec::new();
    for (section, value) in sections {
        for (key, value) in value.into_dict().expect("a section is a table of keys") {
            keys.push((format!("{section}.{key}"), value));
        }
    }
    keys
}

/// The file, every key of it known.
fn file(path: &Path, keys: &[(String, Value)]) -> Result<Layer, Problems> {
    let source = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::new(&source, "", format!("the configuration file cannot be read: {error}"))
    })?;
    let dict: Dict = Toml::from_str(&text).map_err(|error| {
        ConfigError::new(&source, "", format!("not TOML: {}", error.to_string().trim_end()))
    })?;
    let mut unknown = Vec::new();
    for (section, value) in &dict {
        let known = |wanted: &str| keys.iter().any(|(key, _)| key == wanted);
        let prefix = format!("{section}.");
        if !keys.iter().any(|(key, _)| key.starts_with(&prefix)) {
            let sections = keys.iter().filter_map(|(key, _)| key.split('.').next());
            unknown.push(unknown_key(&source, section, "section", nearest(section, sections)));
        } else if let Some(table) = value.as_dict() {
            for name in table.keys().map(|name| format!("{prefix}{name}")).filter(|name| !known(name)) {
                let near = nearest(&name, keys.iter().map(|(key, _)| key.as_str()));
                unknown.push(unknown_key(&source, &name, "key", near));
            }
        } else {
            let what =
                format!("expected a section, [{section}], found {}", shown(section, &value.to_actual()));
            unknown.push(ConfigError::new(&source, section, what));
        }
    }
    if unknown.is_empty() { Ok(Layer { source, dict }) } else { Err(Problems(unknown)) }
}

fn unknown_key(source: &str, key: &str, kind: &str, near: Option<&str>) -> ConfigError {
    let what = match near {
        Some(near) => format!("there is no such {kind}; did you mean {near}?"),
        None => format!("there is no such {kind}; cluster.toml lists them all"),
    };
    ConfigError::new(source, key, what)
}

/// One layer for each `HOTSEAT_<SECTION>_<KEY>`.
fn variables(
    environment: impl Iterator<Item = (OsString, OsString)>,
    keys: &[(String, Value)],
) -> Result<Vec<Layer>, Problems> {
    let names: Vec<(String, &str, &Value)> =
        keys.iter().map(|(key, default)| (variable(key), key.as_str(), default)).collect();
    let mut layers = Vec::new();
    let mut wrong = Vec::new();
    for (name, text) in environment {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let source = format!("environment variable {name}");
        match (names.iter().find(|(known, ..)| *known == name), text.into_string()) {
            (None, _) => {
                // Most likely the section was forgotten.
                let tail = name.replacen(PREFIX, "_", 1);
                let names = names.iter().map(|(known, ..)| known.as_str());
                let near =
                    names.clone().find(|known| known.ends_with(&tail)).or_else(|| nearest(&name, names));
                wrong.push(unknown_key(&source, "", "setting", near));
            }
            (Some((_, key, _)), Err(_)) => {
                wrong.push(ConfigError::new(source, *key, "expected text, found bytes that are not UTF-8"));
            }
            (Some((_, key, default)), Ok(text)) => {
                layers.push(Layer::one(source, key, typed(text, default)));
            }
        }
    }
    if wrong.is_empty() { Ok(layers) } else { Err(Problems(wrong)) }
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// The text as the type of the default. What cannot be that stays text: the error then says so.
fn typed(text: String, default: &Value) -> Value {
    match default {
        Value::Bool(..) => text.parse::<bool>().map(Value::from).unwrap_or(Value::from(text)),
        Value::Num(..) => text.parse::<i64>().map(Value::from).unwrap_or(Value::from(text)),
        _ => Value::from(text),
    }
}

fn command_line(flags: &Flags) -> Vec<Layer> {
    let mut layers = Vec::new();
    let mut say = |flag: &str, key: &str, value: Value| {
        layers.push(Layer::one(format!("flag {flag}"), key, value));
    };
    if let Some(data) = &flags.data {
        say("--data", "node.data", Value::from(data.to_string_lossy().into_owned()));
    }
    if let Some(listen) = flags.listen {
        say("--listen", "server.listen", Value::from(listen.to_string()));
    }
    if let Some(listen) = flags.ops_listen {
        say("--ops-listen", "server.ops_listen", Value::from(listen.to_string()));
    }
    if flags.demo {
        say("--demo", "auth.dev_tokens", Value::from(true));
        say("--demo", "sales.confirm_role", Value::from("USER"));
    }
    layers
}

/// A value that is not of its key's type.
fn wrong_type(error: &figment::Error, source: &dyn Fn(&str) -> String) -> Problems {
    let key = error.path.join(".");
    let what = match &error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("expected {}, found {}", readable(&key, expected), shown(&key, found))
        }
        Kind::UnknownVariant(found, expected) => {
            format!("expected {}, found {found:?}", one_of(expected))
        }
        other => other.to_string(),
    };
    ConfigError::new(source(&key), key, what).into()
}

/// What serde expects, for people.
fn readable(key: &str, expected: &str) -> String {
    match (key, expected) {
        ("cluster.shards", _) => super::check::SHARDS.to_owned(),
        (_, "u16") => "a whole number from 1 to 65535".to_owned(),
        (_, "u32") => "a whole number from 1 to 4294967295".to_owned(),
        (_, "a boolean") => "true or false".to_owned(),
        (_, expected) => expected.to_owned(),
    }
}

fn shown(key: &str, found: &Actual) -> String {
    match found {
        _ if SECRETS.contains(&key) => "something else".to_owned(),
        Actual::Str(text) => format!("{text:?}"),
        Actual::Unsigned(number) => format!("the number {number}"),
        Actual::Signed(number) => format!("the number {number}"),
        Actual::Float(number) => format!("the number {number}"),
        Actual::Bool(truth) => truth.to_string(),
        other => format!("{other}"),
    }
}

fn one_of(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ")
}

fn changed(config: &Config, source: &dyn Fn(&str) -> String) -> Vec<Changed> {
    let mut changed = Vec::new();
    for ((key, value), (_, default)) in flatten(config).into_iter().zip(keys()) {
        if value == default {
            continue;
        }
        let value = match key.as_str() {
            key if SECRETS.contains(&key) => "(kept secret)".to_owned(),
            "ledger.url" | "mirror.url" => text::without_login(&toml(&value)),
            _ => toml(&value),
        };
        let source = source(&key);
        changed.push(Changed { key, value, source });
    }
    changed
}

fn toml(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Bool(_, truth) => truth.to_string(),
        Value::Num(_, Num::I64(number)) => number.to_string(),
        other => other.to_u128().map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}
