//! To which modules an adapter is added, with what rank and scale: PEFT's rules, compiled.

use super::adapter_config::{AdapterConfig, TargetModules};
use super::python_regex::PythonRegex;

impl AdapterConfig {
    /// Returns the rules by which modules are found, compiled.
    ///
    /// # Errors
    /// A sentence that names the setting and the expression that cannot be compiled.
    pub fn rules(&self) -> Result<AdapterRules<'_>, String> {
        let under = |key: &'static str| move |why: String| format!("`{key}`: {why}");
        let modules = |key, modules: Option<&TargetModules>| match modules {
            Some(TargetModules::Pattern(pattern)) => {
                PythonRegex::full(pattern).map(Some).map_err(under(key))
            }
            _ => Ok(None),
        };
        Ok(AdapterRules {
            config: self,
            target: modules("target_modules", Some(&self.target_modules))?,
            exclude: modules("exclude_modules", self.exclude_modules.as_ref())?,
            layers: match (&self.layers, self.layers_pattern.as_slice()) {
                (None, _) => Vec::new(),
                // The first number behind a part of the name that is not its first.
                (Some(_), []) => {
                    vec![PythonRegex::bare_layer().map_err(under("layers_to_transform"))?]
                }
                (Some(_), patterns) => patterns
                    .iter()
                    .map(|pattern| PythonRegex::layer(pattern))
                    .collect::<Result<_, _>>()
                    .map_err(under("layers_pattern"))?,
            },
            ranks: compiled(&self.rank_pattern).map_err(under("rank_pattern"))?,
            alphas: compiled(&self.alpha_pattern).map_err(under("alpha_pattern"))?,
        })
    }
}

type Patterns<T> = Vec<(PythonRegex, T)>;

fn compiled<T: Copy>(patterns: &[(String, T)]) -> Result<Patterns<T>, String> {
    patterns.iter().map(|(key, value)| Ok((PythonRegex::suffix(key)?, *value))).collect()
}

/// Which modules an adapter is added to, and how: the settings with their expressions compiled.
#[derive(Debug)]
pub struct AdapterRules<'a> {
    config: &'a AdapterConfig,
    target: Option<PythonRegex>,
    exclude: Option<PythonRegex>,
    layers: Vec<PythonRegex>,
    ranks: Patterns<usize>,
    alphas: Patterns<f64>,
}

impl AdapterRules<'_> {
    /// Returns whether the adapter is added to `module`.
    ///
    /// # Errors
    /// When an expression takes too long, in a sentence; so do the other methods.
    pub fn targets(&self, module: &str) -> Result<bool, String> {
        let ends = |name: &String| {
            module
                .strip_suffix(name.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let excluded = match &self.config.exclude_modules {
            Some(TargetModules::Names(names)) => names.iter().any(ends),
            Some(TargetModules::AllLinear) => module == "all-linear",
            Some(TargetModules::Pattern(_)) | None => match &self.exclude {
                Some(pattern) => pattern.is_match(module)?,
                None => false,
            },
        };
        if excluded {
            return Ok(false);
        }
        match (&self.config.target_modules, &self.target) {
            (TargetModules::AllLinear, _) => Ok(true),
            // A module that is named in full is meant, in whichever layer it is.
            (TargetModules::Names(names), _) if names.iter().any(|name| name == module) => Ok(true),
            (TargetModules::Names(names), _) => {
                Ok(names.iter().any(ends) && self.in_layer(module)?)
            }
            (TargetModules::Pattern(_), Some(pattern)) => pattern.is_match(module),
            (TargetModules::Pattern(_), None) => Ok(false),
        }
    }

    fn in_layer(&self, module: &str) -> Result<bool, String> {
        let Some(layers) = &self.config.layers else { return Ok(true) };
        for pattern in &self.layers {
            if let Some(index) = pattern.index(module)? {
                return Ok(layers.contains(&index));
            }
        }
        Ok(false)
    }

    /// Returns the rank for `module`.
    ///
    /// # Errors
    /// As [`AdapterRules::targets`].
    pub fn rank(&self, module: &str) -> Result<usize, String> {
        Ok(first_match(&self.ranks, module)?.unwrap_or(self.config.r))
    }

    /// Returns what the product of the two matrices is multiplied by for `module`.
    ///
    /// # Errors
    /// As [`AdapterRules::targets`].
    pub fn scale(&self, module: &str) -> Result<f64, String> {
        let alpha = first_match(&self.alphas, module)?.unwrap_or(self.config.alpha);
        let r = self.rank(module)? as f64;
        Ok(alpha / if self.config.use_rslora { r.sqrt() } else { r })
    }
}

/// Returns the value of the first pattern that fits the end of the module's name.
fn first_match<T: Copy>(patterns: &Patterns<T>, module: &str) -> Result<Option<T>, String> {
    for (pattern, value) in patterns {
        if pattern.is_match(module)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}
