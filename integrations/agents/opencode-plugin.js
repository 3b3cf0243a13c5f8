// Asks for the token at each request to the provider `databricks`, which then needs no apiKey.
export const LakebaseToken = async ({ $ }) => ({
  "chat.headers": async (input, output) => {
    if (input.model.providerID !== "databricks") return
    const asked = await $`lakebase-token get --for workspace`.quiet().nothrow()
    if (asked.exitCode !== 0) throw new Error(asked.stderr.toString().trim())
    output.headers.Authorization = "Bearer " + asked.stdout.toString().trim()
  },
})
