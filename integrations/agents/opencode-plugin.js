// Sets a fresh token for each request to the provider `databricks`, which then needs no apiKey.
export const LakebaseToken = async ({ $ }) => ({
  "chat.headers": async (input, output) => {
    if (input.model.providerID !== "databricks") return

    const result = await $`lakebase-token get --for workspace`.quiet().nothrow()
    if (result.exitCode !== 0) throw new Error(result.stderr.toString().trim())

    output.headers.Authorization = "Bearer " + result.stdout.toString().trim()
  },
})
